// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/device.hpp"

#include <algorithm>

#include "vmm/base/state.hpp"

namespace inox::devices::virtio {

void Device::activate(const DmaMemory& memory, std::vector<std::optional<Queue>> queues, std::uint64_t features,
                      Notifier& notifier) noexcept {
    std::lock_guard lock{mutex_};
    memory_ = &memory;
    queues_ = std::move(queues);
    negotiated_ = features;
    notifier_ = &notifier;
    stopped_broken_ = false;
    active_ = true;
    on_activate();
}

void Device::reset() noexcept {
    {
        std::lock_guard lock{mutex_};
        if (!active_)
            return;
        on_reset();
        active_ = false;
        queues_.clear();
        negotiated_ = 0;
    }
    settle();
}

void Device::reset_queue(unsigned index) noexcept {
    {
        std::lock_guard lock{mutex_};
        if (!active_ || !queue(index))
            return;
        on_reset_queue(index);
        queues_[index].reset();
    }
    settle();
}

void Device::enable_queue(unsigned index, const Queue& fresh) noexcept {
    std::lock_guard lock{mutex_};
    if (active_ && index < queues_.size())
        queues_[index].emplace(fresh);
}

void Device::kick(unsigned index) noexcept {
    std::lock_guard lock{mutex_};
    if (!active_ || at_rest_ || !queue(index))
        return;
    look_at(index);
}

void Device::look_at(unsigned index) noexcept {
    if (stopped_broken_ || !queue(index))
        return;
    counters_.kicks.fetch_add(1, std::memory_order_relaxed);
    on_kick(index);
    if (const Queue* used = queue(index); used && used->broken())
        stop_broken(used->broken_reason());
}

void Device::restore(const DmaMemory& memory, std::vector<std::optional<Queue>> queues, std::uint64_t features,
                     Notifier& notifier) noexcept {
    std::lock_guard lock{mutex_};
    memory_ = &memory;
    queues_ = std::move(queues);
    negotiated_ = features;
    notifier_ = &notifier;
    at_rest_ = restored_ = true;
    active_ = true;
}

void Device::state(State& state) {
    std::lock_guard lock{mutex_};
    state.part("rings", [this](State& rings) {
        rings.version(1);
        rings.flag("stopped", stopped_broken_);
        for (unsigned index = 0; index < queues_.size(); ++index)
            if (Queue* ring = queue(index))
                rings.part(("queue" + std::to_string(index)).c_str(), [ring](State& part) { ring->state(part); });
    });
    if (state.ok())
        on_state(state);
}

bool Device::drain() noexcept {
    std::lock_guard lock{mutex_};
    at_rest_ = true;
    if (resetting())
        return false;
    if (!active_)
        return true;
    const auto given_back = [](const auto& ring) { return !ring || ring->outstanding() == 0; };
    return on_drain() && (stopped_broken_ || std::ranges::all_of(queues_, given_back));
}

/// A notification that was on its way when the machine was saved is lost, and so may be an interrupt: every ring is
/// looked at, and the driver of a restored device is told to do so. Both cost nothing where there is nothing.
void Device::resume() noexcept {
    std::lock_guard lock{mutex_};
    at_rest_ = false;
    if (!active_)
        return;
    on_resume();
    for (unsigned index = 0; index < queues_.size(); ++index) {
        look_at(index);
        if (restored_ && queue(index))
            notify(index);
    }
    restored_ = false;
}

void Device::signal(unsigned index) noexcept {
    Queue* used = queue(index);
    if (!used || !used->take_interrupt())
        return;
    notify(index);
}

void Device::notify(unsigned index) noexcept {
    counters_.interrupts.fetch_add(1, std::memory_order_relaxed);
    notifier_->used_buffers(index);
}

void Device::config_changed() noexcept { notifier_->config_changed(); }

void Device::stop_broken(const char* reason) noexcept { stop("the driver broke its ring", reason); }

void Device::stop_failed(const char* reason) noexcept { stop("the device failed", reason); }

void Device::stop(const char* fault, const char* reason) noexcept {
    if (stopped_broken_)
        return;
    stopped_broken_ = true;
    counters_.broken_rings.fetch_add(1, std::memory_order_relaxed);
    if (limiter_.allow()) {
        log::write(log::Level::warning, "%s: %s (%s); stopped until the driver resets the device", name_.c_str(), fault,
                   reason);
        if (on_broken_)
            on_broken_(reason);
    }
    notifier_->needs_reset();
}

void Device::note_bad_request(const char* reason) noexcept {
    counters_.bad_requests.fetch_add(1, std::memory_order_relaxed);
    if (limiter_.allow())
        log::write(log::Level::warning, "%s: refused a request: %s", name_.c_str(), reason);
}

} // namespace inox::devices::virtio
