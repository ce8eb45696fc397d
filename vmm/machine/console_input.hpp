// SPDX-License-Identifier: Apache-2.0
// Standard input to the guest's serial port: raw terminal, pasted text without loss, Ctrl-A X to leave.
#pragma once

#include <termios.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "vmm/base/event_loop.hpp"

namespace vmm {

/// Puts a terminal into raw mode and back. Not a terminal: does nothing.
class RawTerminal {
public:
    explicit RawTerminal(int fd);
    ~RawTerminal() { restore(); }
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;
    void restore();
    [[nodiscard]] bool active() const { return saved_.has_value(); }

private:
    int fd_;
    std::optional<termios> saved_{};
};

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
