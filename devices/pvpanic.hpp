// SPDX-License-Identifier: Apache-2.0
// How a guest's kernel says that it panicked: QEMU's pvpanic, a register of one byte that drivers of Linux and Windows
// know. It is there twice, as the ACPI device QEMU0001 and as a PCI function: kernels have the driver of either, or
// none.
#pragma once

#include <memory>

#include "devices/guest_events.hpp"
#include "devices/pci/function.hpp"
#include "vmm/bus/bus.hpp"

namespace inox::devices {

/// Lives at layout::port_pvpanic. Reads tell which events it takes; a write reports them.
class PvPanic final : public BusDevice {
public:
    static constexpr std::uint8_t panicked = 1 << 0;     ///< nothing runs there any more
    static constexpr std::uint8_t crash_loaded = 1 << 1; ///< the guest's own crash kernel takes over

    explicit PvPanic(GuestEvents& events) : events_{events} {}

    [[nodiscard]] std::string_view name() const override { return "pvpanic"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override;

private:
    GuestEvents& events_;
};

/// The register at the start of BAR 0.
class PvPanicFunction final : public pci::Function {
public:
    /// no_resource as of ConfigSpace::add_bar.
    static Result<std::shared_ptr<PvPanicFunction>> create(GuestEvents& events);

    [[nodiscard]] std::string_view name() const override { return "pvpanic-pci"; }
    void bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override { register_.state(state); }

private:
    explicit PvPanicFunction(GuestEvents& events);
    PvPanic register_;
};

} // namespace inox::devices
