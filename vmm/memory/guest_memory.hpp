// SPDX-License-Identifier: Apache-2.0
// Guest RAM and the one way to reach it. Guest structures are copied out once, checked, then used: no reference into
// guest memory crosses a function boundary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/address.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/range.hpp"
#include "vmm/memory/dirty_pages.hpp"

namespace inox {

enum class HugePages : std::uint8_t {
    none,
    transparent, ///< from the first touch on, as the host's policy lets them
    two_mib,     ///< set aside by the host
};

/// One contiguous piece of guest RAM.
struct RamRegion {
    Range<Gpa> range;
    std::span<std::byte> host; ///< as long as the range
    std::uint64_t file_offset; ///< into a snapshot's memory file, and into GuestMemory::fd() if that is there
};

/// RAM of one guest: below the 32-bit hole and, when larger, from 4 GiB up. Immutable after creation, so any thread may
/// use it. Contents are raced by the guest at any time.
///
/// One memfd is behind both, unless the pages are transparent and nobody is to share them: the host's policy gives
/// private memory huge pages, on most hosts, and a memfd none.
class GuestMemory {
public:
    enum class Sharing : std::uint8_t { unneeded, needed };
    /// `size` in bytes: a multiple of the page size (2 MiB for HugePages::two_mib), layout::min_ram..layout::max_ram.
    /// For tests: the machine's own plan has a hole.
    static Result<GuestMemory> create(std::uint64_t size, HugePages huge_pages, Sharing sharing = Sharing::unneeded);
    /// The same where RAM below 4 GiB ends at `hole` at the latest, a multiple of 2 MiB.
    static Result<GuestMemory> create(std::uint64_t size, HugePages huge_pages, Sharing sharing, Gpa hole);

    /// With the contents of an open file, which has the regions one behind the other and is never written to again. It
    /// is mapped, and nothing read, where the pages need not be shared and are none that the host sets aside; else it
    /// is copied. memory_unavailable, snapshot_missing.
    static Result<GuestMemory> restore(std::uint64_t size, HugePages huge_pages, Sharing sharing, Gpa hole,
                                       UniqueFd image);
    /// Private memory whose pages another process brings (PageServer); a shared one of huge pages where the host sets
    /// them aside.
    static Result<GuestMemory> awaiting(std::uint64_t size, HugePages huge_pages, Gpa hole);

    /// A process that is forked from this one has the same memory, as it is then. Nobody may have written to it.
    void inherit() const noexcept;

    [[nodiscard]] std::span<const RamRegion> regions() const { return regions_; }
    [[nodiscard]] std::uint64_t size() const { return size_; }
    /// Whether another process can be given this memory.
    [[nodiscard]] bool shared() const { return static_cast<bool>(file_); }
    /// The memfd; -1 when it is not shared.
    [[nodiscard]] int fd() const { return file_.get(); }
    /// The file behind pages that nobody has touched; -1: there is none, and they are zero.
    [[nodiscard]] int image_fd() const { return image_.get(); }
    /// Pages that nobody has touched are another process's to bring: they are not zero because they are not there.
    [[nodiscard]] bool served() const { return served_; }
    /// The host may have these pages back; they are zero from now on. Whole pages of one region. False with errno.
    bool discard(std::span<std::byte> pages) const noexcept;
    [[nodiscard]] HugePages huge_pages() const { return huge_pages_; }
    /// Last byte of RAM below the hole.
    [[nodiscard]] Gpa low_last() const { return regions_.front().range.last(); }

    /// What the VMM writes: write(), discard() and DmaMemory keep it.
    [[nodiscard]] DirtyPages& dirty() const { return *dirty_; }

    /// Host bytes of a range that lies wholly in one region; nullopt otherwise. The bytes may change under the reader.
    /// Who writes to them once a guest runs marks them in dirty().
    [[nodiscard]] std::optional<std::span<std::byte>> host(Range<Gpa> range) const;
    [[nodiscard]] std::optional<std::span<std::byte>> host(Gpa start, std::uint64_t size) const;

    /// Copies. False when any byte is outside RAM; nothing is copied then.
    [[nodiscard]] bool read(Gpa from, std::span<std::byte> to) const;
    [[nodiscard]] bool write(Gpa to, std::span<const std::byte> from) const;
    template <GuestPod T> [[nodiscard]] std::optional<T> read(Gpa from) const {
        T value{};
        if (!read(from, std::as_writable_bytes(std::span{&value, 1})))
            return std::nullopt;
        return value;
    }
    template <GuestPod T> [[nodiscard]] bool write(Gpa to, const T& value) const {
        return write(to, std::as_bytes(std::span{&value, 1}));
    }

private:
    GuestMemory() = default;
    static Result<GuestMemory> make(std::uint64_t size, HugePages huge_pages, bool file, Gpa hole);
    [[nodiscard]] bool give_back(std::span<std::byte> pages) const noexcept;
    Result<void> map_image();
    Result<void> copy_image(int image);
    UniqueFd file_;
    UniqueFd image_;
    std::vector<Mapping> mappings_;
    std::vector<RamRegion> regions_;
    std::unique_ptr<DirtyPages> dirty_; ///< never null; stays where it is
    std::uint64_t size_{};
    HugePages huge_pages_{HugePages::none};
    bool served_{false};
};

} // namespace inox
