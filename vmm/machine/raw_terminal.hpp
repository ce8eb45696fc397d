// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace vmm {

/// Puts a terminal into raw mode and back, also when a signal ends the process that nobody else handles, a crash among
/// them. Not a terminal: does nothing. One at a time.
class RawTerminal {
public:
    explicit RawTerminal(int fd);
    ~RawTerminal();
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;
    [[nodiscard]] bool active() const { return active_; }

private:
    bool active_{false};
};

/// Gives the terminal back early, for a process that ends without its destructors. From any thread in which SIGTTOU is
/// blocked.
void restore_terminal() noexcept;

} // namespace vmm
