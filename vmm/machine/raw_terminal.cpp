// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/raw_terminal.hpp"

#include <termios.h>

#include <atomic>
#include <csignal>

namespace vmm {
namespace {

/// What a signal handler needs to know. The settings are written before the descriptor is.
std::atomic<int> raw_fd{-1};
termios settings_before{};
static_assert(std::atomic<int>::is_always_lock_free);

/// Those that end a process by default and are not among the orderly ends (see run.cpp).
constexpr int ending_signals[] = {SIGABRT, SIGALRM, SIGBUS,    SIGFPE,  SIGILL,  SIGIO,   SIGPROF,   SIGPWR,
                                  SIGSEGV, SIGSYS,  SIGSTKFLT, SIGTRAP, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU};

/// Only calls that are safe in a handler. Every signal is blocked in it, SIGTTOU too, so the settings are taken even
/// from a process in the background. The signal comes again, and ends the process, as soon as this returns.
extern "C" void restore_and_end(int signal) {
    restore_terminal();
    ::signal(signal, SIG_DFL);
    ::raise(signal);
}

/// A sanitizer's handlers stay, and what a parent told us to ignore stays ignored.
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

} // namespace

RawTerminal::RawTerminal(int fd) {
    termios settings{};
    if (::tcgetattr(fd, &settings) != 0)
        return;
    settings_before = settings;
    raw_fd = fd;
    active_ = true;
    watch_ending_signals();
    ::cfmakeraw(&settings);
    settings.c_oflag |= OPOST; // our own messages keep their line ends
    ::tcsetattr(fd, TCSANOW, &settings);
}

RawTerminal::~RawTerminal() {
    if (!active_)
        return;
    restore_terminal();
}

void restore_terminal() noexcept {
    if (const int fd = raw_fd.exchange(-1); fd >= 0)
        ::tcsetattr(fd, TCSANOW, &settings_before);
}

} // namespace vmm
