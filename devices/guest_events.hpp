// SPDX-License-Identifier: Apache-2.0
// What a guest can ask of its machine through a device register.
#pragma once

#include <cstdint>
#include <string_view>

namespace inox::devices {

/// Called on vCPU threads, several at once and repeatedly: the guest goes on running until the machine stops it.
class GuestEvents {
public:
    GuestEvents() = default;
    GuestEvents(const GuestEvents&) = delete;
    GuestEvents& operator=(const GuestEvents&) = delete;
    virtual ~GuestEvents() = default;
    virtual void power_off() noexcept = 0;
    virtual void reset() noexcept = 0;
    /// The guest ends with this code.
    virtual void exit(std::uint8_t code) noexcept = 0;
    virtual void user_space_up() noexcept = 0;
    /// Its first program could not mount the root or start the command; `text`: its words, without control characters.
    virtual void root_failed(std::string_view text) noexcept = 0;
    /// Its kernel panicked; `crash_kernel`: another one of its own takes over.
    virtual void panicked(bool crash_kernel) noexcept = 0;
};

} // namespace inox::devices
