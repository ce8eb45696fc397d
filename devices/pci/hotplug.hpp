// SPDX-License-Identifier: Apache-2.0
// How slots of the root bus are filled and emptied while the guest runs: the registers behind the ACPI methods of the
// host bridge (vmm/boot/dsdt.cpp), and the interrupt of the generic event device.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "vmm/bus/bus.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices::pci {

/// Four registers of 32 bits, one bit a slot. Other widths and offsets read as 0 and drop writes.
///
///   0  added     slots with a new device; reading clears it
///   4  wanted    slots whose device the host asks back; reading clears it
///   8  eject     writing a 1 gives the slot's device back; reads as 0
///
/// Thread-safe.
class HotplugRegisters final : public BusDevice {
public:
    static constexpr std::uint64_t added_offset = 0;
    static constexpr std::uint64_t wanted_offset = 4;
    static constexpr std::uint64_t eject_offset = 8;
    /// The guest gave the slot back; on its vCPU's thread. The guest looks at the slot again when this has returned.
    using Eject = std::function<void(unsigned slot)>;

    HotplugRegisters(std::unique_ptr<IrqLine> line, Eject eject) : line_{std::move(line)}, eject_{std::move(eject)} {}

    [[nodiscard]] std::string_view name() const override { return "pci-hotplug"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override;
    void resume() noexcept override { (void)remind(); }

    /// The slot holds a device that was not there before. A request for its predecessor is forgotten.
    void announce(unsigned slot) noexcept;
    /// The guest shall stop using the slot's device and eject it.
    void ask_back(unsigned slot) noexcept;
    /// Nothing about this slot needs telling any more.
    void forget(unsigned slot) noexcept;
    /// Interrupts once more if the guest has not read everything: an edge is lost on a guest that does not listen yet.
    /// False when it has.
    bool remind() noexcept;

private:
    std::unique_ptr<IrqLine> line_;
    Eject eject_;
    std::atomic<std::uint32_t> added_{0};
    std::atomic<std::uint32_t> wanted_{0};
};

} // namespace inox::devices::pci
