// SPDX-License-Identifier: Apache-2.0
// An engine's pace without an accelerator.
#pragma once

#include <atomic>

#include "devices/dsa/transfer.hpp"

namespace inox::fakes {

struct DsaPace final : devices::dsa::Pace {
    [[nodiscard]] bool go_on() noexcept override {
        asked.fetch_add(1, std::memory_order_relaxed);
        return !cancel.load(std::memory_order_relaxed);
    }
    std::atomic<bool> cancel{false};
    std::atomic<unsigned> asked{0}; ///< pieces of work
};

} // namespace inox::fakes
