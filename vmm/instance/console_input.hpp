// SPDX-License-Identifier: Apache-2.0
// Standard input to the guest's serial port: pasted text without loss, Ctrl-A X to leave, Ctrl-A H for help.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "vmm/base/event_loop.hpp"
#include "vmm/instance/raw_terminal.hpp"

namespace inox {

/// Lives on the loop's thread. Reads only as much as the guest has room for, so nothing is lost. Reads a terminal only
/// while inox is its foreground job: what is typed at other times belongs to another job.
class ConsoleInput {
public:
    struct Guest {
        /// Takes what fits and returns how many bytes that was.
        std::function<std::size_t(std::span<const std::byte>)> receive;
        /// Ctrl-A X on a terminal.
        std::function<void()> leave;
        /// Ctrl-A H, or ?, on a terminal.
        std::function<void()> help;
    };
    /// What these keys do.
    static constexpr std::string_view keys = "\ninox: Ctrl-A X ends the guest\n"
                                             "inox: Ctrl-A A sends a Ctrl-A to the guest\n"
                                             "inox: Ctrl-A H shows this text\n";
    /// `terminal`: the one that `fd` is, if it is one; outlives this.
    ConsoleInput(EventLoop& loop, int fd, RawTerminal& terminal, Guest guest);
    /// Begins to read.
    void start() { watch(); }
    /// The foreground job of the terminal may have changed.
    void look_again();
    /// The guest took something: there may be room again. Loop's thread.
    void on_room();

private:
    void on_readable();
    void take(std::span<const char> typed);
    void deliver();
    void watch();
    void unwatch();
    Result<Registration> watch_shared();

    EventLoop& loop_;
    int fd_;
    RawTerminal& terminal_;
    Guest guest_;
    std::string pending_{}; ///< read but not yet taken by the guest; at most one read's worth
    bool escape_{false};
    bool ended_{false};
    bool pollable_{true};
    UniqueFd ready_{}; ///< readable when fd_ is
    Registration watch_{};
    Registration later_{}; ///< in the background: when to look again
    bool watching_{false};
};

} // namespace inox
