// SPDX-License-Identifier: Apache-2.0
// Finds a guest that hangs: a console that says nothing, a vCPU that takes no interrupt. And lets a kernel that hangs
// say where it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "vmm/base/event_loop.hpp"
#include "vmm/instance/instance.hpp"

namespace inox {

/// On the loop's thread. A guest that is paused, or held by a debugger, does not hang. Time in which the loop did not
/// run, because inox or the whole host was stopped (SIGSTOP, a freezer, a debugger of inox), counts for nothing.
class HangWatch {
public:
    /// A vCPU that takes no interrupt for so long is a hard lockup. Linux's own detector waits half as long, and is off
    /// in guests of KVM.
    static constexpr std::chrono::seconds lockup_after{20};

    /// `hung` is called at most once, with why. `instance` must outlive this.
    HangWatch(EventLoop& loop, Instance& instance, std::function<void(Error)> hung)
        : loop_{loop}, instance_{instance}, hung_{std::move(hung)} {}

    /// Ends a guest whose console says nothing for this long. Looks eight times in that time.
    void expect_words(std::chrono::milliseconds within);
    /// Looks at each vCPU every two seconds; it leaves the guest for that.
    void expect_interrupts();
    /// Sends an NMI to the vCPU that hangs, if Linux was told to report an NMI (unknown_nmi_panic), and waits until the
    /// console is still. False: nothing is to be waited for, and `done` is not called.
    bool ask_kernel(std::function<void()> done);

private:
    void listen(std::chrono::milliseconds within);
    void await_words(std::chrono::steady_clock::time_point until);
    [[nodiscard]] bool heard();
    /// By how much this look is later than it was to be; `due` becomes the next one.
    static std::chrono::nanoseconds late(std::chrono::steady_clock::time_point& due, std::chrono::nanoseconds next);
    void tell(Error error);

    EventLoop& loop_;
    Instance& instance_;
    std::function<void(Error)> hung_;
    std::function<void()> done_{};
    std::uint64_t console_bytes_{0};
    std::chrono::steady_clock::time_point heard_at_{};
    std::chrono::steady_clock::time_point words_due_{};
    std::chrono::steady_clock::time_point interrupts_due_{};
    std::map<unsigned, std::chrono::steady_clock::time_point> deaf_since_{};
    std::optional<unsigned> locked_up_{};
    Registration silence_;
    Registration lockups_;
};

} // namespace inox
