// SPDX-License-Identifier: Apache-2.0
// The file that holds a guest's memory: its regions one behind the other, without the 32-bit hole and without a header,
// as long as the memory, with holes where it is zero. It can be mapped as it is. A few bytes of a page that the guest
// has no use for hold the id of the snapshot, so that a state never meets another one's memory.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "vmm/memory/guest_memory.hpp"

namespace inox::snapshot {

/// Random.
using MemoryId = std::array<std::byte, 16>;
MemoryId new_memory_id();

/// Of each piece of this size: XXH64 over the number and the bytes of each page that is not zero.
inline constexpr std::uint64_t piece_size = 64 * MiB;

struct MemoryContents {
    std::uint64_t size{0};             ///< bytes of memory
    std::uint64_t stored{0};           ///< of them, not zero
    std::vector<std::uint64_t> sums{}; ///< one a piece
};

/// Where the id is in the file.
[[nodiscard]] std::uint64_t id_offset();

/// Which pages of private memory there are: /proc/self/pagemap. A process that gave up its privileges cannot open it
/// any more, so it is opened by the first call, and kept. -1: it cannot be had, and all of memory is looked at.
int page_map();

/// Writes all of the memory to an empty regular file; nobody changes the memory meanwhile. `stop` ends it early
/// (wrong_state); `pages` is page_map(); `done` counts the bytes looked at. Any thread. output_unwritable.
Result<MemoryContents> write_memory(int file, const GuestMemory& memory, int pages, const MemoryId& id,
                                    const std::atomic<bool>& stop, std::atomic<std::uint64_t>& done);

/// The same sums, of a file. snapshot_missing when it cannot be read.
Result<MemoryContents> read_sums(int file, std::uint64_t size);

/// That it is the memory of this size with this id; reads a few bytes. snapshot_invalid, snapshot_missing.
Result<void> check_memory(int file, std::uint64_t size, const MemoryId& id, const char* path);

} // namespace inox::snapshot
