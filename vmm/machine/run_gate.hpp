// SPDX-License-Identifier: Apache-2.0
// Whether vCPU threads may run: one state for all of them, and the counting that tells when each has seen it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "vmm/base/os.hpp"

namespace inox {

/// The owner sets; every vCPU thread calls pass() before each entry into the guest and obeys.
class RunGate {
public:
    enum class State : std::uint8_t {
        running,
        one, ///< a single vCPU runs, the others wait
        paused,
        stopping,
    };

    static Result<std::unique_ptr<RunGate>> create();

    // Owner.
    void set(State state);
    /// State::one for the thread of this vCPU.
    void set_one(unsigned vcpu);
    /// Returns once `count` threads wait inside pass().
    void wait_until_parked(unsigned count);
    /// After stopping: for the threads of another machine. None of the old ones may be left.
    void reopen();

    // vCPU threads.
    /// Returns at once while running; parks while paused; false means: leave the thread.
    bool pass(unsigned vcpu);
    [[nodiscard]] bool open() const { return state_.load(std::memory_order_acquire) == State::running; }
    [[nodiscard]] bool pausing() const { return state_.load(std::memory_order_acquire) == State::paused; }
    /// Readable while the gate is not open: poll it beside anything that may block a vCPU thread.
    [[nodiscard]] int closed_fd() const { return closed_.fd(); }

private:
    explicit RunGate(EventFd closed) : closed_{std::move(closed)} {}
    std::atomic<State> state_{State::running};
    EventFd closed_;
    std::mutex mutex_;
    std::condition_variable changed_;
    // Guarded by mutex_.
    [[nodiscard]] bool waits(unsigned vcpu) const;
    unsigned parked_{0};
    unsigned only_{0}; ///< State::one
};

} // namespace inox
