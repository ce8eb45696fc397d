// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <thread>

namespace inox::tests {

/// Polls until `done` says so, at most for `limit`. Returns whether it did.
template <class F> bool eventually(F&& done, std::chrono::milliseconds limit = std::chrono::seconds{10}) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done()) {
        if (std::chrono::steady_clock::now() > end)
            return false;
        std::this_thread::sleep_for(std::chrono::microseconds{50});
    }
    return true;
}

} // namespace inox::tests
