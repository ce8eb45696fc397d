// SPDX-License-Identifier: Apache-2.0
// The loop every request queue needs: bounded, so that one driver cannot keep the device loop for itself.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "devices/virtio/queue.hpp"

namespace inox::devices::virtio {

/// What one turn of a queue may take on before the loop's other work gets its chance. It counts work, not requests: the
/// driver decides how much there is behind one. The unit is about the cost of a look-up of a mapping, some tens of
/// nanoseconds; a system call is 16. A time limit applies too, for a host that is slower than that.
class Turn {
public:
    using Clock = std::chrono::steady_clock;

    static constexpr std::uint64_t most_work = 16 * 1024;
    static constexpr std::uint32_t system_call = 16;
    static constexpr Clock::duration usual = std::chrono::milliseconds{2};

    explicit Turn(Clock::duration longest = usual) noexcept : longest_{longest} {}

    /// Counts work that has been done. One request may be more than what was left.
    void spend(std::uint64_t work) noexcept {
        left_ -= std::min(left_, work);
        unwatched_ += work;
        if (unwatched_ < between_looks)
            return;
        unwatched_ = 0;
        if (Clock::now() - start_ >= longest_)
            left_ = 0;
    }
    /// A request, with what its chain says.
    void spend(const Chain& chain) noexcept { spend(request + chain.work); }
    [[nodiscard]] bool over() const noexcept { return left_ == 0; }

private:
    static constexpr std::uint64_t request = 16;
    static constexpr std::uint64_t between_looks = 1024;

    Clock::duration longest_;
    std::uint64_t left_{most_work};
    std::uint64_t unwatched_{0};
    Clock::time_point start_{Clock::now()};
};

enum class Served : std::uint8_t {
    all,     ///< nothing is left and the driver will notify
    more,    ///< the turn is over; the driver will not notify: come back
    blocked, ///< `handle` gave a request back; the driver will not notify
};

/// Pops up to `requests` requests and gives each to `handle(chain)`. That returns true for one that is over, which goes
/// back with 0 bytes unless it was pushed or its head moved away, or false to have it popped again later. It adds to
/// the chain's work what serving it took beyond the usual. Call under a hold, after refresh().
template <class F> Served serve(Queue& queue, Chain& chain, Turn& turn, unsigned requests, F&& handle) noexcept {
    do {
        queue.ask_notifications(false);
        while (requests != 0 && !turn.over() && queue.pop(chain)) {
            --requests;
            const bool served = handle(chain);
            turn.spend(chain);
            if (!served) {
                queue.undo_pop(chain.head);
                chain.clear();
                return Served::blocked;
            }
            queue.push(chain.head, 0);
        }
        if (requests == 0 || turn.over())
            return chain.clear(), Served::more;
        queue.ask_notifications(true);
    } while (queue.has_work());
    chain.clear();
    return Served::all;
}
template <class F> Served serve(Queue& queue, Chain& chain, unsigned requests, F&& handle) noexcept {
    Turn turn;
    return serve(queue, chain, turn, requests, std::forward<F>(handle));
}

} // namespace inox::devices::virtio
