// SPDX-License-Identifier: Apache-2.0
// The ACPI sleep control, sleep status and reset registers of a hardware-reduced machine (ACPI 6.5, 4.8.3.7, 4.8.3.6),
// and behind them one of inox's own for what happened: the generic event device's method reads it (vmm/boot/dsdt.cpp).
#pragma once

#include <atomic>
#include <memory>

#include "devices/guest_events.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices {

/// Lives at layout::port_acpi.
class AcpiPower final : public BusDevice {
public:
    static constexpr std::uint64_t sleep_control = 0;
    static constexpr std::uint64_t sleep_status = 1;
    static constexpr std::uint64_t reset_register = 2;
    static constexpr std::uint64_t button = 3; ///< what happened, as below; reading clears it
    static constexpr std::uint8_t button_pressed = 1;
    static constexpr std::uint8_t new_generation = 2; ///< the generation id is another one
    static constexpr std::uint8_t new_clock = 4;      ///< the clocks jumped
    static constexpr std::uint8_t reset_value = 1;
    static constexpr std::uint8_t sleep_type_s5 = 5; ///< what \_S5 holds

    /// `line` is the generic event device's, edge triggered.
    AcpiPower(GuestEvents& events, std::unique_ptr<IrqLine> line) : events_{events}, line_{std::move(line)} {}

    [[nodiscard]] std::string_view name() const override { return "acpi-power"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override;
    void resume() noexcept override { (void)remind(); }

    // Any thread.

    void press_button() noexcept { tell(button_pressed); }
    /// Its clocks jumped; `forked`: since its time forked.
    void tell_new_time(bool forked) noexcept { tell(forked ? std::uint8_t{new_generation | new_clock} : new_clock); }
    /// Interrupts once more if the guest has not seen all of that: an edge is lost on a guest that does not listen yet.
    /// False when it has.
    bool remind() noexcept;

private:
    void tell(std::uint8_t what) noexcept;

    GuestEvents& events_;
    std::unique_ptr<IrqLine> line_;
    std::atomic<std::uint8_t> untold_{0}; ///< bits of `button`
};

} // namespace inox::devices
