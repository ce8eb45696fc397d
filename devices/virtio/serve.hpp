// SPDX-License-Identifier: Apache-2.0
// The loop every request queue needs: bounded, so that one driver cannot keep the device loop for itself.
#pragma once

#include <cstdint>
#include <utility>

#include "devices/virtio/queue.hpp"

namespace devices::virtio {

enum class Served : std::uint8_t {
    all,     ///< nothing is left and the driver will notify
    more,    ///< the budget is used up; the driver will not notify: come back
    blocked, ///< `handle` gave a request back; the driver will not notify
};

/// Pops requests and gives each to `handle(chain)`, which pushes it or keeps its head and returns true, or returns
/// false to have it popped again later. Call under a hold, after refresh().
template <class F> Served serve(Queue& queue, Chain& chain, unsigned budget, F&& handle) noexcept {
    do {
        queue.ask_notifications(false);
        while (budget != 0 && queue.pop(chain)) {
            --budget;
            if (!handle(chain)) {
                queue.undo_pop();
                return Served::blocked;
            }
        }
        if (budget == 0)
            return Served::more;
        queue.ask_notifications(true);
    } while (queue.has_work());
    return Served::all;
}

} // namespace devices::virtio
