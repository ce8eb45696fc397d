// SPDX-License-Identifier: Apache-2.0
// SIGINT, SIGTERM and SIGHUP as a descriptor.
#pragma once

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

#include "vmm/base/os.hpp"

namespace inox::test {

/// While it lives, these signals do nothing else. A process with one thread only.
class Signals {
public:
    Signals() {
        sigemptyset(&mask_);
        for (const int number : {SIGINT, SIGTERM, SIGHUP})
            sigaddset(&mask_, number);
        ::sigprocmask(SIG_BLOCK, &mask_, &before_);
        file_.reset(::signalfd(-1, &mask_, SFD_CLOEXEC | SFD_NONBLOCK));
    }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;
    ~Signals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

    [[nodiscard]] int fd() const { return file_.get(); }
    /// For a process that is to be started.
    [[nodiscard]] const sigset_t& before() const { return before_; }
    /// Whether one has come since the last call.
    [[nodiscard]] bool take() const {
        signalfd_siginfo info{};
        bool any = false;
        while (::read(file_.get(), &info, sizeof info) == sizeof info)
            any = true;
        return any;
    }

private:
    sigset_t mask_{};
    sigset_t before_{};
    UniqueFd file_{};
};

} // namespace inox::test
