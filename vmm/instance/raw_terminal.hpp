// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace inox {

/// A terminal in raw mode while our process group is in front of it, and never touched while another one is: a job in
/// the background that did would be stopped, or take the shell's terminal from it. It is restored also when an
/// unhandled signal, such as a crash, ends the process. Does nothing if the descriptor is not a terminal. One at a
/// time, on one thread.
class RawTerminal {
public:
    explicit RawTerminal(int fd);
    ~RawTerminal() { give_back(); }
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;

    [[nodiscard]] bool is_terminal() const { return terminal_; }
    /// Raw mode, when we are in front. Whether it may be read now.
    bool take();
    /// The process was stopped: whoever had the terminal meanwhile may have changed it. take() starts anew.
    void forget() { held_ = false; }
    /// As it was, if it is still ours.
    void give_back();

private:
    int fd_;
    bool terminal_;
    bool held_{false};         ///< in raw mode by us
    bool taken_before_{false}; ///< at one time
};

/// Gives the terminal back early, for a process that ends without its destructors. From any thread in which SIGTTOU is
/// blocked.
void restore_terminal() noexcept;

} // namespace inox
