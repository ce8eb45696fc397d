// SPDX-License-Identifier: Apache-2.0
#include "devices/debug_ports.hpp"

#include <algorithm>
#include <utility>

#include "vmm/base/state.hpp"

namespace inox::devices {
namespace {

constexpr bool is_printable(char c) { return c >= ' ' && c < 0x7f; }

} // namespace

void BootTimer::read(std::uint64_t, std::span<std::byte> data) noexcept { std::ranges::fill(data, std::byte{0xff}); }

void BootTimer::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (offset == 0 && std::to_integer<std::uint8_t>(data.front()) == user_space_up)
        events_.user_space_up();
}

void DebugPorts::read(std::uint64_t, std::span<std::byte> data) noexcept { std::ranges::fill(data, std::byte{0xff}); }

void DebugPorts::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    constexpr auto timer = layout::port_boot_timer.start().raw() - ports.start().raw();
    if (offset == 0)
        events_.exit(std::to_integer<std::uint8_t>(data.front()));
    else if (offset == timer)
        boot_timer_.write(0, data);
    else if (offset == layout::port_root_failure.start().raw() - ports.start().raw())
        take_failure(static_cast<char>(data.front()));
}

/// It remembers nothing.
void BootTimer::state(State& state) { state.version(1); }

void DebugPorts::state(State& state) {
    const std::lock_guard lock{mutex_};
    state.version(1);
    std::string text{failure_.data(), failure_size_};
    state.text("failure", text, longest_failure);
    state.check(std::ranges::all_of(text, is_printable), "its text has control characters");
    failure_size_ = text.size();
    std::ranges::copy(text, failure_.begin());
}

void DebugPorts::take_failure(char c) noexcept {
    std::lock_guard lock{mutex_};
    if (c == '\n')
        events_.root_failed({failure_.data(), std::exchange(failure_size_, 0)});
    else if (is_printable(c) && failure_size_ < failure_.size())
        failure_[failure_size_++] = c;
}

} // namespace inox::devices
