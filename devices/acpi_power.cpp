// SPDX-License-Identifier: Apache-2.0
#include "devices/acpi_power.hpp"

#include "devices/state_fields.hpp"

namespace inox::devices {
namespace {

constexpr std::uint8_t sleep_enable = 0x20;
constexpr unsigned sleep_type(std::uint8_t value) { return (value >> 2) & 7; }

} // namespace

/// The guest cannot read back sleep control, and it never wakes up, so WAK_STS stays 0.
void AcpiPower::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    for (auto& byte : data)
        byte = std::byte{offset++ == button ? untold_.exchange(0) : std::uint8_t{0}};
}

void AcpiPower::tell(std::uint8_t what) noexcept {
    untold_ |= what;
    line_->trigger();
}

void AcpiPower::state(State& state) {
    state.version(1);
    atomic_number(state, "untold", untold_, 0, button_pressed | new_generation | new_clock);
}

bool AcpiPower::remind() noexcept {
    const bool unseen = untold_ != 0;
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
