// SPDX-License-Identifier: Apache-2.0
// Memory as a device sees it: guest RAM directly, or through an IOMMU domain. Emulated devices reach guest memory only
// through this.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <shared_mutex>
#include <span>
#include <vector>

#include "vmm/base/address.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/range.hpp"
#include "vmm/memory/dirty_pages.hpp"
#include "vmm/memory/dma_pins.hpp"

namespace inox {

/// What the device does with the memory.
enum class Access : std::uint8_t { read = 1, write = 2, read_write = 3 };

/// What translations may still yield and cost; they count it down. The guest decides how its memory is mapped: the
/// buffer of one descriptor may lie over a million mappings.
struct TranslationLimit {
    std::size_t pieces{};   ///< of host memory
    std::size_t mappings{}; ///< looked up; several may make one piece
    [[nodiscard]] constexpr bool take_piece() { return pieces != 0 && pieces-- != 0; }
    [[nodiscard]] constexpr bool take_mapping() { return mappings != 0 && mappings-- != 0; }
    /// For a range whose size is not the guest's choice: it may lie in pages each on its own.
    static constexpr TranslationLimit pages_of(std::uint64_t size) {
        const std::size_t pages = size / page_size + 2;
        return {pages, pages};
    }
};

enum class Translated : std::uint8_t {
    whole,
    fault,    ///< some byte may not be accessed so; reported where the guest can see it
    too_many, ///< the limit was reached first; nothing is reported
};

/// Thread-safe.
class DmaMemory {
public:
    /// `dirty`: of the guest memory behind it, which outlives this; null: nobody asks what is written.
    explicit DmaMemory(DirtyPages* dirty = nullptr) : dirty_{dirty} {}
    DmaMemory(const DmaMemory&) = delete;
    DmaMemory& operator=(const DmaMemory&) = delete;
    virtual ~DmaMemory() = default;

    /// While a hold lives, translations stay valid: a vCPU that unmaps waits for it. Take it before translate(), keep
    /// it until the last access, or pin() what asynchronous I/O uses beyond it. A few milliseconds at most. Not
    /// recursive.
    class [[nodiscard]] Hold {
    public:
        Hold() = default;
        explicit Hold(std::shared_lock<std::shared_mutex> lock) : lock_{std::move(lock)} {}

    private:
        std::shared_lock<std::shared_mutex> lock_{};
    };
    virtual Hold hold() const = 0;
    /// Under the hold that the addresses were translated under: the guest's unmap of any of them is answered only after
    /// pin.release(). Nothing where translations are for ever.
    virtual void pin(DmaPin& pin) const { (void)pin; }
    /// Changes whenever a translation may have; compare under a hold.
    [[nodiscard]] virtual std::uint64_t generation() const noexcept = 0;

    /// Appends the host bytes behind the range, in order, possibly in several pieces; nothing unless the answer is
    /// `whole`. Never does more work, nor appends more, than `limit` has left. What may be written counts as written at
    /// once; who writes later than this turn of the loop, or on another thread, calls wrote() behind it.
    [[nodiscard]] Translated translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                       TranslationLimit& limit) const noexcept {
        const auto before = out.size();
        const auto translated = do_translate(range, access, out, limit);
        if (translated == Translated::whole && access != Access::read)
            wrote(std::span{out}.subspan(before == 0 ? 0 : before - 1)); // the last one may have become longer
        return translated;
    }
    /// These bytes of guest memory, which were translated, have changed.
    void wrote(std::span<const iovec> pieces) const noexcept {
        if (dirty_ == nullptr || !dirty_->tracked())
            return;
        for (const iovec& piece : pieces)
            dirty_->mark(piece.iov_base, piece.iov_len);
    }
    void wrote(const void* start, std::size_t size) const noexcept {
        if (dirty_ != nullptr)
            dirty_->mark(start, size);
    }

    /// Copies. False when any byte may not be accessed; nothing is copied then.
    bool read(Iova from, std::span<std::byte> to) const noexcept;
    bool write(Iova to, std::span<const std::byte> from) const noexcept;
    template <GuestPod T> [[nodiscard]] std::optional<T> read(Iova from) const noexcept {
        T value{};
        if (!read(from, std::as_writable_bytes(std::span{&value, 1})))
            return std::nullopt;
        return value;
    }
    template <GuestPod T> [[nodiscard]] bool write(Iova to, const T& value) const noexcept {
        return write(to, std::as_bytes(std::span{&value, 1}));
    }

private:
    [[nodiscard]] virtual Translated do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                                  TranslationLimit& limit) const noexcept = 0;
    DirtyPages* dirty_;
};

class GuestMemory;

/// Bus addresses are guest-physical addresses.
class DirectMemory final : public DmaMemory {
public:
    /// `memory` must outlive it.
    explicit DirectMemory(const GuestMemory& memory);
    Hold hold() const override { return {}; }
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 0; }

private:
    [[nodiscard]] Translated do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                          TranslationLimit& limit) const noexcept override;
    const GuestMemory& memory_;
};

} // namespace inox
