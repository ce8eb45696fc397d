// SPDX-License-Identifier: Apache-2.0
// A machine that stands still for whoever reads its state: a save, or a move.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

#include "vmm/base/event_loop.hpp"
#include "vmm/machine/machine.hpp"

namespace inox {

/// Everything is called on the loop.
class AtRest {
public:
    using Done = std::move_only_function<void(Result<void>)>;
    AtRest(EventLoop& loop, Machine& machine) : loop_{loop}, machine_{machine} {}
    AtRest(const AtRest&) = delete;
    AtRest& operator=(const AtRest&) = delete;

    /// Holds its vCPUs, and waits for its devices: their I/O ends on the loop, which has to run meanwhile. `done` may
    /// be called before this returns: with timed_out for a device that takes more than 20 seconds, and with success
    /// also when `given_up` has become true.
    void begin(const std::atomic<bool>& given_up, Done done);
    [[nodiscard]] bool held() const { return held_; }
    /// It goes on, if it was held. Not called by the destructor.
    void end() noexcept;

private:
    void look(const std::atomic<bool>& given_up, std::chrono::steady_clock::time_point until);

    EventLoop& loop_;
    Machine& machine_;
    Done done_{};
    bool held_{false};
    Registration timer_{};
};

} // namespace inox
