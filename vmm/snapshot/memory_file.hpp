// SPDX-License-Identifier: Apache-2.0
// The file that holds a guest's memory: its regions one behind the other, without the 32-bit hole and without a header,
// as long as the memory, with holes where it is zero. It can be mapped as it is. A few bytes of a page that the guest
// has no use for hold the id of the snapshot, so that a state never meets another one's memory.
//
// The memory of a Diff is such a file with the pages that changed since another snapshot, and holes elsewhere. Which
// pages those are says the state: a file that was copied may have other holes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "vmm/memory/guest_memory.hpp"

namespace inox::snapshot {

/// Random.
using MemoryId = std::array<std::byte, 16>;
MemoryId new_memory_id();

/// Of each piece of this size: XXH64 over the number and the bytes of each page that is not zero.
inline constexpr std::uint64_t piece_size = 64 * MiB;

/// Changed pages of a piece, one bit each.
struct ChangedPiece {
    static constexpr std::size_t bytes = piece_size / page_size / 8;
    std::uint64_t number{0};
    std::array<std::byte, bytes> pages{};
};

struct MemoryContents {
    std::uint64_t size{0};             ///< bytes of memory
    std::uint64_t stored{0};           ///< of them, not zero; of a Diff: changed
    std::vector<std::uint64_t> sums{}; ///< one a piece; none for a file that others merge
    bool diff{false};
    MemoryId base{};                     ///< of a Diff: what it is to be merged into
    std::vector<ChangedPiece> changed{}; ///< of a Diff: in order. The sums are of these pages, zero or not
};

/// What is saved.
enum class Pages : std::uint8_t {
    all,     ///< those that are not zero
    touched, ///< a Diff without a log: those that this process has, and an image behind them has not
    written, ///< a Diff by GuestMemory::dirty(), with KVM's log in it
};

/// Where the id is in the file.
[[nodiscard]] std::uint64_t id_offset();

/// Which pages of private memory there are: /proc/self/pagemap. A process that gave up its privileges cannot open it
/// any more, so it is opened by the first call, and kept. -1: it cannot be had, and all of memory is looked at.
int page_map();

/// Marks the pages of a piece of a region, from byte `start` of it on, that are to be looked at; `pages` is page_map().
void mark_pages(const GuestMemory& memory, const RamRegion& region, std::size_t start, int pages, Pages which,
                std::vector<bool>& marks);
/// Of whole words.
[[nodiscard]] bool is_zero(std::span<const std::byte> bytes);

/// Writes the memory to a regular file: all of it to an empty one, a Diff perhaps over what the file has. Nobody
/// changes the memory meanwhile. `stop` ends it early (wrong_state); `pages` is page_map(); `done` counts the bytes
/// looked at. Any thread. output_unwritable.
Result<MemoryContents> write_memory(int file, const GuestMemory& memory, int pages, const MemoryId& id, Pages which,
                                    const std::atomic<bool>& stop, std::atomic<std::uint64_t>& done);
/// Where a Diff goes over a file that has a base: from now on it is nobody's until it is whole. output_unwritable.
Result<void> write_id(int file, const MemoryId& id);

/// The same sums, of a file. snapshot_missing when it cannot be read.
Result<MemoryContents> read_sums(int file, std::uint64_t size);
/// Of a Diff. Calls `each` with the place of each changed page and its bytes, in order, until that fails.
Result<MemoryContents>
read_changed(int file, const MemoryContents& contents,
             const std::function<Result<void>(std::uint64_t offset, std::span<const std::byte> page)>& each);
/// Writes to the empty file `out` what `base` has, with the pages of the Diff over it. The base is whole.
/// snapshot_invalid for a Diff that is damaged, snapshot_missing, output_unwritable.
Result<MemoryContents> merge_memory(int base, int diff, const MemoryContents& contents, int out);

/// That it is the memory of this size with this id; reads a few bytes. snapshot_invalid, snapshot_missing.
Result<void> check_memory(int file, std::uint64_t size, const MemoryId& id, const char* path);

} // namespace inox::snapshot
