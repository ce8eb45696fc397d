// SPDX-License-Identifier: Apache-2.0
// How a test guest ends with a code, and how a guest says that its user space is up, or why it never will be.
#pragma once

#include <array>
#include <mutex>

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
    void state(State& state) override;

private:
    GuestEvents& events_;
};

/// The exit port, the boot timer beside it, and behind that the port for what keeps a guest from its root: a byte at a
/// time, '\n' ends it. The low byte of a write, of any width, counts.
class DebugPorts final : public BusDevice {
public:
    static constexpr auto ports = *Range<IoPort>::sized(layout::port_exit.start(), 4);
    static constexpr std::size_t longest_failure = 400; ///< what is behind it is dropped

    explicit DebugPorts(GuestEvents& events) : events_{events}, boot_timer_{events} {}

    [[nodiscard]] std::string_view name() const override { return "debug-ports"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override;

private:
    GuestEvents& events_;
    void take_failure(char c) noexcept;

    BootTimer boot_timer_;
    std::mutex mutex_{};
    std::array<char, longest_failure> failure_{}; // guarded by mutex_, and so is its size
    std::size_t failure_size_{0};
};

} // namespace inox::devices
