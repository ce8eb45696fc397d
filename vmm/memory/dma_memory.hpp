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

namespace vmm {

/// What the device does with the memory.
enum class Access : std::uint8_t { read = 1, write = 2, read_write = 3 };

/// Thread-safe.
class DmaMemory {
public:
    DmaMemory() = default;
    DmaMemory(const DmaMemory&) = delete;
    DmaMemory& operator=(const DmaMemory&) = delete;
    virtual ~DmaMemory() = default;

    /// While a hold lives, translations stay valid: an unmap by the guest waits for it. Take it before translate(),
    /// keep it until the last access, also of asynchronous I/O. Not recursive.
    class [[nodiscard]] Hold {
    public:
        Hold() = default;
        explicit Hold(std::shared_lock<std::shared_mutex> lock) : lock_{std::move(lock)} {}

    private:
        std::shared_lock<std::shared_mutex> lock_{};
    };
    virtual Hold hold() const = 0;
    /// Changes whenever a translation may have; compare under a hold.
    [[nodiscard]] virtual std::uint64_t generation() const noexcept = 0;

    /// Appends the host bytes behind the range, in order, possibly in several pieces. False, with nothing appended,
    /// when any byte may not be accessed so; the fault is reported where the guest can see it.
    virtual bool translate(Range<Iova> range, Access access, std::vector<iovec>& out) const noexcept = 0;

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
};

class GuestMemory;

/// Bus addresses are guest-physical addresses.
class DirectMemory final : public DmaMemory {
public:
    /// `memory` must outlive it.
    explicit DirectMemory(const GuestMemory& memory) : memory_{memory} {}
    Hold hold() const override { return {}; }
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 0; }
    bool translate(Range<Iova> range, Access access, std::vector<iovec>& out) const noexcept override;

private:
    const GuestMemory& memory_;
};

} // namespace vmm
