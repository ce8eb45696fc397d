// SPDX-License-Identifier: Apache-2.0
// How a test guest ends with a code, and how a guest says that its user space is up.
#pragma once

#include "devices/guest_events.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::devices {

/// One byte on either bus; 123 means that user space is up.
class BootTimer final : public BusDevice {
public:
    static constexpr std::uint8_t user_space_up = 123;
    /// Its place on the memory bus, where Firecracker's guests look for it.
    static constexpr auto mmio = *Range<Gpa>::sized(layout::mmio_devices.start(), page_size);

    explicit BootTimer(GuestEvents& events) : events_{events} {}

    [[nodiscard]] std::string_view name() const override { return "boot-timer"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

private:
    GuestEvents& events_;
};

/// The exit port and the boot timer beside it. The low byte of a write to the exit port, of any width, is the code.
class DebugPorts final : public BusDevice {
public:
    static constexpr auto ports = *Range<IoPort>::sized(layout::port_exit.start(), 4);

    explicit DebugPorts(GuestEvents& events) : events_{events}, boot_timer_{events} {}

    [[nodiscard]] std::string_view name() const override { return "debug-ports"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

private:
    GuestEvents& events_;
    BootTimer boot_timer_;
};

} // namespace inox::devices
