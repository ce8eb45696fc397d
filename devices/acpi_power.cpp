// SPDX-License-Identifier: Apache-2.0
#include "devices/acpi_power.hpp"

namespace inox::devices {
namespace {

constexpr std::uint8_t sleep_enable = 0x20;
constexpr unsigned sleep_type(std::uint8_t value) { return (value >> 2) & 7; }

} // namespace

/// The guest cannot read back sleep control, and it never wakes up, so WAK_STS stays 0.
void AcpiPower::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    for (auto& byte : data)
        byte = std::byte{offset++ == button && pressed_.exchange(false)};
}

void AcpiPower::press_button() noexcept {
    pressed_.store(true);
    line_->trigger();
}

bool AcpiPower::remind() noexcept {
    const bool unseen = pressed_.load();
    if (unseen)
        line_->trigger();
    return unseen;
}

void AcpiPower::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    for (const auto byte : data) {
        const auto value = std::to_integer<std::uint8_t>(byte);
        if (offset == sleep_control && (value & sleep_enable) && sleep_type(value) == sleep_type_s5)
            events_.power_off();
        if (offset == reset_register && value == reset_value)
            events_.reset();
        ++offset;
    }
}

} // namespace inox::devices
