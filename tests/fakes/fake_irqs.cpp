// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/fake_irqs.hpp"

namespace inox::fakes {

int FakeIrqLine::resample_fd() const { return state_->mode == TriggerMode::level ? state_->resample.fd() : -1; }

Result<void> FakeMsiVector::route(MsiMessage message) {
    state_->message = message;
    ++state_->routes;
    return {};
}

Result<void> FakeMsiVector::enable(bool enabled) {
    state_->enabled = enabled;
    const bool signalled = enabled && state_->trigger.drain() != 0;
    if (enabled && (std::exchange(state_->pending, false) || signalled))
        state_->delivered.push_back(state_->message);
    return {};
}

void FakeMsiVector::trigger() noexcept {
    if (state_->enabled)
        state_->delivered.push_back(state_->message);
    else
        state_->pending = true;
}

bool FakeMsiVector::pending() const {
    pollfd poll{state_->trigger.fd(), POLLIN, 0};
    return state_->pending || (!state_->enabled && ::poll(&poll, 1, 0) == 1);
}

Result<std::unique_ptr<IrqLine>> FakeIrqs::line(unsigned gsi, TriggerMode mode) {
    auto state = std::make_shared<FakeIrqLine::State>();
    state->gsi = gsi;
    state->mode = mode;
    lines.push_back(state);
    return std::make_unique<FakeIrqLine>(std::move(state));
}

Result<std::unique_ptr<MsiVector>> FakeIrqs::msi() {
    if (vectors.size() >= capacity)
        return fail(Errc::no_resource, "the fake's routing table is full");
    vectors.push_back(std::make_shared<FakeMsiVector::State>());
    return std::make_unique<FakeMsiVector>(vectors.back());
}

Result<Registration> FakeDoorbells::add(Gpa address, unsigned size, std::optional<std::uint64_t> match,
                                        const EventFd& event) {
    if (bells->size() == capacity)
        return fail(Errc::no_resource, "the fake has no more doorbells");
    const Bell bell{address, size, match, event.fd()};
    bells->push_back(bell);
    return Registration{[list = bells, bell] { std::erase(*list, bell); }};
}

} // namespace inox::fakes
