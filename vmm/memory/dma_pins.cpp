// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/dma_pins.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

namespace inox {

struct DmaDrain::State {
    std::atomic<std::size_t> left{1}; ///< open pins, and one more until when_done()
    std::function<void()> call{};
    std::vector<std::weak_ptr<DmaPins>> where{}; ///< used by the drain's thread only

    void drop() {
        if (left.fetch_sub(1, std::memory_order_acq_rel) == 1)
            call();
    }
};

bool DmaDrain::done() const {
    // Until when_done(), one of the count is the drain's own.
    return !state_ || state_->left.load(std::memory_order_acquire) <= (state_->call ? 0U : 1U);
}

void DmaDrain::when_done(std::function<void()> call) {
    if (!state_)
        return call();
    state_->call = std::move(call);
    state_->drop();
}

void DmaDrain::hurry() {
    if (!state_)
        return;
    std::vector<std::shared_ptr<DmaPin::Owner>> owners;
    for (const auto& where : state_->where) {
        const auto pins = where.lock();
        if (!pins)
            continue;
        const std::lock_guard lock{pins->mutex_};
        for (DmaPin* pin : pins->pins_)
            if (std::ranges::find(pin->waiting_, state_) != pin->waiting_.end()) {
                pin->overdue_ = true;
                if (auto owner = pin->owner.lock(); owner && std::ranges::find(owners, owner) == owners.end())
                    owners.push_back(std::move(owner));
            }
    }
    for (const auto& owner : owners)
        owner->pins_overdue();
}

void DmaPin::release() noexcept {
    const auto pins = std::exchange(pins_, nullptr);
    if (!pins)
        return;
    std::vector<std::shared_ptr<DmaDrain::State>> waiting;
    {
        const std::lock_guard lock{pins->mutex_};
        DmaPin* last = pins->pins_.back();
        pins->pins_[place_] = last;
        last->place_ = place_;
        pins->pins_.pop_back();
        waiting.swap(waiting_);
        overdue_ = false;
    }
    for (const auto& state : waiting)
        state->drop();
}

bool DmaPin::overdue() const {
    if (!pins_)
        return false;
    const std::lock_guard lock{pins_->mutex_};
    return overdue_;
}

void DmaPins::add(DmaPin& pin) {
    if (pin.ranges.empty())
        return;
    const auto [lowest, highest] = std::ranges::minmax(pin.ranges, {}, &Range<Iova>::start);
    Iova last = highest.last();
    for (const auto& range : pin.ranges)
        last = std::max(last, range.last());
    const std::lock_guard lock{mutex_};
    pin.hull_ = *Range<Iova>::closed(lowest.start(), last);
    pin.place_ = pins_.size();
    pins_.push_back(&pin);
    pin.pins_ = shared_from_this();
}

void DmaPins::collect(Range<Iova> range, DmaDrain& drain) {
    const std::lock_guard lock{mutex_};
    bool found = false;
    for (DmaPin* pin : pins_) {
        if (!pin->hull_.overlaps(range) ||
            std::ranges::none_of(pin->ranges, [&](const auto& one) { return one.overlaps(range); }))
            continue;
        if (!drain.state_)
            drain.state_ = std::make_shared<DmaDrain::State>();
        // A drain may collect twice from one device.
        if (std::ranges::find(pin->waiting_, drain.state_) != pin->waiting_.end())
            continue;
        pin->waiting_.push_back(drain.state_);
        drain.state_->left.fetch_add(1, std::memory_order_relaxed);
        found = true;
    }
    if (found)
        drain.state_->where.push_back(weak_from_this());
}

} // namespace inox
