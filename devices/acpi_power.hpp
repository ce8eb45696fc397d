// SPDX-License-Identifier: Apache-2.0
// The ACPI sleep control, sleep status and reset registers of a hardware-reduced machine (ACPI 6.5, 4.8.3.7, 4.8.3.6).
#pragma once

#include "devices/guest_events.hpp"
#include "vmm/bus/bus.hpp"

namespace devices {

/// Lives at layout::port_acpi.
class AcpiPower final : public vmm::BusDevice {
public:
    static constexpr std::uint64_t sleep_control = 0;
    static constexpr std::uint64_t sleep_status = 1;
    static constexpr std::uint64_t reset_register = 2;
    static constexpr std::uint8_t reset_value = 1;
    static constexpr std::uint8_t sleep_type_s5 = 5; ///< what \_S5 holds

    explicit AcpiPower(GuestEvents& events) : events_{events} {}

    [[nodiscard]] std::string_view name() const override { return "acpi-power"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

private:
    GuestEvents& events_;
};

} // namespace devices
