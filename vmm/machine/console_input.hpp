// SPDX-License-Identifier: Apache-2.0
// Standard input to the guest's serial port: pasted text without loss, Ctrl-A X to leave.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "vmm/base/event_loop.hpp"

namespace vmm {

/// Lives on the loop's thread. Reads only what the guest has room for, so nothing is lost.
class ConsoleInput {
public:
    struct Guest {
        /// Takes what fits and returns how many bytes that was.
        std::function<std::size_t(std::span<const std::byte>)> receive;
        /// Ctrl-A X on a terminal.
        std::function<void()> leave;
    };
    ConsoleInput(EventLoop& loop, int fd, bool terminal, Guest guest);
    /// Begins to read.
    void start();
    /// The guest took something: there may be room again. Loop's thread.
    void on_room();

private:
    void on_readable();
    void take(std::span<const char> typed);
    void deliver();
    void watch();
    Result<Registration> watch_shared();

    EventLoop& loop_;
    int fd_;
    bool terminal_;
    Guest guest_;
    std::string pending_{}; ///< read but not yet taken by the guest; at most one read's worth
    bool escape_{false};
    bool ended_{false};
    bool pollable_{true};
    UniqueFd ready_{}; ///< readable when fd_ is
    Registration watch_{};
    bool watching_{false};
};

} // namespace vmm
