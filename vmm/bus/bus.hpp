// SPDX-License-Identifier: Apache-2.0
// Routes guest accesses to devices. An access must lie wholly inside one device's range.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string_view>

#include "vmm/base/address.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/range.hpp"
#include "vmm/bus/stateful.hpp"

namespace inox {

/// What 64-byte stores carry.
using WideBytes = std::span<const std::byte, 64>;

/// A device with trapped registers. Calls come from any vCPU thread, several at once: the device locks for itself.
class BusDevice : public Stateful {
public:
    [[nodiscard]] virtual std::string_view name() const = 0;
    /// `offset` is relative to the range's start; `data` is 1 to 8 bytes and must be filled whole.
    virtual void read(std::uint64_t offset, std::span<std::byte> data) noexcept = 0;
    virtual void write(std::uint64_t offset, std::span<const std::byte> data) noexcept = 0;
    /// An aligned 64-byte store (MOVDIR64B). Unless the device knows better, eight of 8 bytes.
    virtual void write_wide(std::uint64_t offset, WideBytes data) noexcept {
        for (std::size_t at = 0; at < data.size(); at += 8)
            write(offset + at, data.subspan(at, 8));
    }
    /// An aligned 64-byte store that is answered (ENQCMD, ENQCMDS): false for "retry", which is also what anything but
    /// an enqueue register says.
    virtual bool enqueue(std::uint64_t offset, WideBytes command) noexcept {
        (void)offset, (void)command;
        return false;
    }
};

/// Thread-safe. The lock covers the look-up only: a device may add, move or remove ranges from inside its handler.
/// A handler may still run on another thread for a moment after its range was removed; the shared handle keeps it
/// alive.
template <class A> class Bus {
public:
    /// already_exists when the range overlaps one that is present; the error names both.
    Result<void> add(Range<A> range, std::shared_ptr<BusDevice> device) {
        std::unique_lock lock{mutex_};
        if (const auto* other = ranges_.overlap(range))
            return fail(Errc::already_exists,
                        format("%s at %#llx overlaps %s at %#llx", std::string{device->name()}.c_str(),
                               hex(range.start()), std::string{other->value->name()}.c_str(),
                               hex(other->range.start())));
        (void)ranges_.insert(range, std::move(device));
        return {};
    }
    /// Removes exactly this range; false when it is not there.
    bool remove(Range<A> range) {
        std::unique_lock lock{mutex_};
        return ranges_.erase(range);
    }
    /// All ones when nobody answers.
    void read(A address, std::span<std::byte> data) noexcept {
        if (auto [device, offset] = find(address, data.size()); device) {
            device->read(offset, data);
            return;
        }
        unclaimed_.fetch_add(1, std::memory_order_relaxed);
        for (auto& byte : data)
            byte = std::byte{0xff};
    }
    /// Dropped when nobody answers.
    void write(A address, std::span<const std::byte> data) noexcept {
        if (auto [device, offset] = find(address, data.size()); device) {
            device->write(offset, data);
            return;
        }
        unclaimed_.fetch_add(1, std::memory_order_relaxed);
    }
    /// Dropped when nobody answers.
    void write_wide(A address, WideBytes data) noexcept {
        if (auto [device, offset] = find(address, data.size()); device) {
            device->write_wide(offset, data);
            return;
        }
        unclaimed_.fetch_add(1, std::memory_order_relaxed);
    }
    /// "Retry" when nobody answers.
    bool enqueue(A address, WideBytes command) noexcept {
        if (auto [device, offset] = find(address, command.size()); device)
            return device->enqueue(offset, command);
        unclaimed_.fetch_add(1, std::memory_order_relaxed);
        return false;
    }
    /// Accesses nobody answered, since the start.
    [[nodiscard]] std::uint64_t unclaimed() const { return unclaimed_.load(std::memory_order_relaxed); }

private:
    struct Hit {
        std::shared_ptr<BusDevice> device;
        std::uint64_t offset{};
    };
    Hit find(A address, std::size_t size) const noexcept {
        const auto range = Range<A>::sized(address, size);
        if (!range)
            return {};
        std::shared_lock lock{mutex_};
        const auto* entry = ranges_.find(*range);
        if (!entry)
            return {};
        return {entry->value, address.raw() - entry->range.start().raw()};
    }

    mutable std::shared_mutex mutex_;
    RangeMap<A, std::shared_ptr<BusDevice>> ranges_; // guarded by mutex_
    std::atomic<std::uint64_t> unclaimed_{0};
};

using PortBus = Bus<IoPort>;
using MemoryBus = Bus<Gpa>;

} // namespace inox
