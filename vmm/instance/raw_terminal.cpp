// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/raw_terminal.hpp"

#include <termios.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <unistd.h>

namespace inox {
namespace {

/// What a signal handler needs. The settings are written before the descriptor is.
std::atomic<int> raw_fd{-1};
termios settings_before{};
static_assert(std::atomic<int>::is_always_lock_free);

/// Signals that end a process by default and that inox neither reads nor ignores (see watchdog.cpp).
constexpr int ending_signals[] = {SIGABRT, SIGALRM, SIGBUS,    SIGFPE,  SIGILL,  SIGIO,   SIGPROF,   SIGPWR,
                                  SIGSEGV, SIGSYS,  SIGSTKFLT, SIGTRAP, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU};

/// Whether our process group is in the foreground. True, too, when this is not our controlling terminal.
bool in_front(int fd) {
    const pid_t front = ::tcgetpgrp(fd);
    return front < 0 || front == ::getpgrp();
}

/// Makes only calls that are safe in a handler. The raised signal is blocked until this returns, then ends the process.
extern "C" void restore_and_end(int signal) {
    restore_terminal();
    ::signal(signal, SIG_DFL);
    ::raise(signal);
}

/// Leaves alone a sanitizer's handlers, and signals that the parent process told us to ignore.
void watch_ending_signals() {
    struct sigaction action {};
    action.sa_handler = restore_and_end;
    ::sigfillset(&action.sa_mask);
    for (const int signal : ending_signals) {
        struct sigaction before {};
        if (::sigaction(signal, nullptr, &before) == 0 && (before.sa_flags & SA_SIGINFO) == 0 &&
            before.sa_handler == SIG_DFL)
            ::sigaction(signal, &action, nullptr);
    }
}

termios raw(termios settings) {
    ::cfmakeraw(&settings);
    settings.c_oflag |= OPOST; // our own messages keep their line ends
    return settings;
}

bool same(const termios& a, const termios& b) {
    return a.c_iflag == b.c_iflag && a.c_oflag == b.c_oflag && a.c_cflag == b.c_cflag && a.c_lflag == b.c_lflag &&
           std::memcmp(a.c_cc, b.c_cc, sizeof a.c_cc) == 0;
}

} // namespace

RawTerminal::RawTerminal(int fd) : fd_{fd}, terminal_{::isatty(fd) != 0} {}

bool RawTerminal::take() {
    if (!terminal_)
        return true;
    const bool front = in_front(fd_);
    if (!front)
        raw_fd = -1; // the settings belong to another process group
    held_ = held_ && front;
    termios settings{};
    if (!front || held_ || ::tcgetattr(fd_, &settings) != 0)
        return front; // a terminal that hung up can be read to its end
    // A shell may have restored the settings that we had when we were stopped.
    if (!taken_before_ || !same(settings, raw(settings_before))) {
        raw_fd = -1;
        settings_before = settings;
    }
    raw_fd = fd_;
    held_ = taken_before_ = true;
    watch_ending_signals();
    settings = raw(settings_before);
    ::tcsetattr(fd_, TCSANOW, &settings);
    return true;
}

void RawTerminal::give_back() {
    if (!held_)
        return;
    held_ = false;
    restore_terminal();
}

void restore_terminal() noexcept {
    if (const int fd = raw_fd.exchange(-1); fd >= 0 && in_front(fd))
        ::tcsetattr(fd, TCSANOW, &settings_before);
}

} // namespace inox
