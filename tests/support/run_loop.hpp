// SPDX-License-Identifier: Apache-2.0
// Runs a device loop on the test's own thread, so that a test reads from top to bottom and needs no locks.
#pragma once

#include <chrono>
#include <ctime>
#include <functional>

#include "vmm/base/event_loop.hpp"

namespace inox::tests {

/// Runs the loop until `done` or the limit. Returns whether it is done; does not ask again once it was.
bool run_until(EventLoop& loop, const std::function<bool()>& done,
               std::chrono::milliseconds limit = std::chrono::seconds{10});

/// Runs the loop for a while.
void run_for(EventLoop& loop, std::chrono::milliseconds time);

/// Runs what is posted and what is ready now.
void turn(EventLoop& loop);

/// Processor time this thread spends in the loop while it runs for `time`: a watch that spins shows.
std::chrono::nanoseconds busy_for(EventLoop& loop, std::chrono::milliseconds time);

} // namespace inox::tests
