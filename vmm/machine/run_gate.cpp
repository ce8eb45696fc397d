// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/run_gate.hpp"

namespace inox {

Result<std::unique_ptr<RunGate>> RunGate::create() {
    auto closed = TRY(EventFd::create());
    return std::unique_ptr<RunGate>{new RunGate{std::move(closed)}};
}

void RunGate::set(State state) {
    std::lock_guard lock{mutex_};
    if (state_.load(std::memory_order_relaxed) == State::stopping)
        return;
    state_.store(state, std::memory_order_release);
    if (state == State::running)
        closed_.drain();
    else
        closed_.signal();
    changed_.notify_all();
}

// Nobody else is outside pass(), so whoever polls closed_fd() is that one.
void RunGate::set_one(unsigned vcpu) {
    std::lock_guard lock{mutex_};
    if (state_.load(std::memory_order_relaxed) == State::stopping)
        return;
    only_ = vcpu;
    state_.store(State::one, std::memory_order_release);
    closed_.drain();
    changed_.notify_all();
}

bool RunGate::waits(unsigned vcpu) const {
    const auto state = state_.load(std::memory_order_relaxed);
    return state == State::paused || (state == State::one && vcpu != only_);
}

void RunGate::wait_until_parked(unsigned count) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return parked_ >= count || state_.load(std::memory_order_relaxed) != State::paused; });
}

void RunGate::reopen() {
    std::lock_guard lock{mutex_};
    state_.store(State::running, std::memory_order_release);
    closed_.drain();
}

bool RunGate::pass(unsigned vcpu) {
    if (open()) [[likely]]
        return true;
    std::unique_lock lock{mutex_};
    ++parked_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !waits(vcpu); });
    --parked_;
    return state_.load(std::memory_order_relaxed) != State::stopping;
}

} // namespace inox
