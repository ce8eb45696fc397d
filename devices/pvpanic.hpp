// SPDX-License-Identifier: Apache-2.0
// How a guest's kernel says that it panicked: QEMU's pvpanic, ACPI device QEMU0001, a register of one byte that drivers
// of Linux and Windows know.
#pragma once

#include "devices/guest_events.hpp"
#include "vmm/bus/bus.hpp"

namespace devices {

/// Lives at layout::port_pvpanic. Reads tell which events it takes; a write reports them.
class PvPanic final : public vmm::BusDevice {
public:
    static constexpr std::uint8_t panicked = 1 << 0;     ///< nothing runs there any more
    static constexpr std::uint8_t crash_loaded = 1 << 1; ///< the guest's own crash kernel takes over

    explicit PvPanic(GuestEvents& events) : events_{events} {}

    [[nodiscard]] std::string_view name() const override { return "pvpanic"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

private:
    GuestEvents& events_;
};

} // namespace devices
