// SPDX-License-Identifier: Apache-2.0
#include "devices/pvpanic.hpp"

#include <algorithm>

#include "vmm/base/state.hpp"

namespace inox::devices {

void PvPanic::read(std::uint64_t, std::span<std::byte> data) noexcept {
    std::ranges::fill(data, std::byte{panicked | crash_loaded});
}

void PvPanic::write(std::uint64_t, std::span<const std::byte> data) noexcept {
    const auto events = std::to_integer<std::uint8_t>(data.front());
    if (events & panicked)
        events_.panicked(false);
    else if (events & crash_loaded)
        events_.panicked(true);
}

/// It remembers nothing.
void PvPanic::state(State& state) { state.version(1); }

PvPanicFunction::PvPanicFunction(GuestEvents& events)
    : Function{{.vendor = 0x1b36, .device = 0x0011, .class_code = 0x088000}, pci::ConfigSpace::conventional},
      register_{events} {}

Result<std::shared_ptr<PvPanicFunction>> PvPanicFunction::create(GuestEvents& events) {
    std::shared_ptr<PvPanicFunction> function{new PvPanicFunction{events}};
    TRY_VOID(function->config().add_bar(0, {.kind = pci::BarKind::memory32, .size = page_size}));
    return function;
}

void PvPanicFunction::bar_read(unsigned /*bar*/, std::uint64_t offset, std::span<std::byte> data) noexcept {
    std::ranges::fill(data, std::byte{0});
    if (offset == 0)
        register_.read(0, data.first(1));
}

void PvPanicFunction::bar_write(unsigned /*bar*/, std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (offset == 0)
        register_.write(0, data.first(1));
}

} // namespace inox::devices
