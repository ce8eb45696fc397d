// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "devices/guest_events.hpp"

namespace inox::fakes {

struct FakeGuestEvents final : devices::GuestEvents {
    void power_off() noexcept override { ++power_offs; }
    void reset() noexcept override { ++resets; }
    void exit(std::uint8_t code) noexcept override { exit_code = code; }
    void user_space_up() noexcept override { ++user_spaces; }
    void root_failed(std::string_view text) noexcept override { root_failures.emplace_back(text); }
    void panicked(bool crash_kernel) noexcept override { ++(crash_kernel ? crash_kernels : panics); }

    std::atomic<unsigned> power_offs{0};
    std::atomic<unsigned> resets{0};
    std::atomic<unsigned> user_spaces{0};
    std::atomic<unsigned> panics{0};
    std::atomic<unsigned> crash_kernels{0};
    std::optional<std::uint8_t> exit_code{};
    std::vector<std::string> root_failures{};
};

} // namespace inox::fakes
