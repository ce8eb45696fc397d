// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "vmm/base/event_loop.hpp"

namespace inox::devices::virtio {

/// A device's work that waits for the loop, each piece at most once. So a guest that asks again and again, for example
/// by resets, does not make the loop's list grow. Member of the device that works. Thread-safe.
class Later {
public:
    /// Runs `work(device)` on the loop, unless number `which` (0..63) waits there already or the device is gone by
    /// then.
    template <class D, class F> void post(EventLoop& loop, unsigned which, std::weak_ptr<D> device, F work) {
        const std::uint64_t bit = std::uint64_t{1} << which;
        if ((waiting_.fetch_or(bit) & bit) != 0)
            return;
        loop.post([this, bit, weak = std::move(device), run = std::move(work)]() mutable {
            const auto self = weak.lock();
            if (!self)
                return;
            waiting_.fetch_and(~bit); // before it works: what is asked for meanwhile is new
            run(*self);
        });
    }

private:
    std::atomic<std::uint64_t> waiting_{0};
};

} // namespace inox::devices::virtio
