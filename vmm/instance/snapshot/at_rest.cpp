// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/snapshot/at_rest.hpp"

#include <utility>

namespace inox {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

void AtRest::begin(const std::atomic<bool>& given_up, Done done) {
    constexpr auto patience = 20s; // for I/O of the host that does not end
    machine_.hold(Machine::Holder::snapshot);
    held_ = true;
    done_ = std::move(done);
    look(given_up, Clock::now() + patience);
}

void AtRest::look(const std::atomic<bool>& given_up, Clock::time_point until) {
    constexpr auto between_looks = 1ms;
    const bool quiet = machine_.drain();
    if (!quiet && !given_up && Clock::now() < until) {
        timer_ = loop_.after(between_looks, [this, &given_up, until] { look(given_up, until); });
        return;
    }
    auto done = std::exchange(done_, nullptr);
    done(quiet || given_up ? Result<void>{}
                           : fail(Errc::timed_out, "a device did not come to rest within 20 seconds",
                                  "the host's storage takes long: see the log, and try again"));
}

void AtRest::end() noexcept {
    timer_.reset();
    if (!std::exchange(held_, false))
        return;
    machine_.undrain();
    machine_.release(Machine::Holder::snapshot);
}

} // namespace inox
