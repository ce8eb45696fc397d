// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/transport.hpp"

#include <bit>

#include "devices/state_fields.hpp"
#include "vmm/base/hex.hpp"

namespace inox::devices::virtio {

TransportCore::TransportCore(std::shared_ptr<Device> device, const DmaMemory& memory, Notifier& notifier,
                             bool translated)
    : device_{std::move(device)}, memory_{memory}, notifier_{notifier}, translated_{translated} {
    for (const std::uint16_t size : device_->queue_sizes())
        queues_.push_back({size, size, 0, 0, 0, false});
}

TransportCore::~TransportCore() {
    watches_.clear();
    device_->reset();
}

Result<void> TransportCore::attach(EventLoop& loop) {
    for (unsigned index = 0; index < queues_.size(); ++index) {
        doorbells_.push_back(TRY(EventFd::create()));
        const int fd = doorbells_.back().fd();
        watches_.push_back(TRY(loop.watch(fd, [this, index] {
            doorbells_[index].drain();
            device_->kick(index);
        })));
    }
    return {};
}

std::uint64_t TransportCore::all_features() const {
    return device_->features() | feature::indirect | feature::event_index | feature::version_1 | feature::ring_reset |
           (translated_ ? feature::access_platform : 0);
}

std::uint8_t TransportCore::status() const {
    const std::uint8_t now = status_;
    return now == 0 && resetting() ? reset_from_.load() : now;
}

void TransportCore::set_status(std::uint8_t value) {
    std::lock_guard lock{mutex_};
    if (value == 0) {
        device_->reset();
        reset_state();
        return;
    }
    // 2.1.1: the driver only adds bits; NEEDS_RESET belongs to the device.
    const auto added = static_cast<std::uint8_t>(value & ~status_ & ~status::needs_reset);
    if ((added & status::features_ok) != 0) {
        // 2.2.2: FEATURES_OK stays clear when the features are not acceptable. Behind an IOMMU, a driver that would use
        // physical addresses cannot be served (6.1).
        const std::uint64_t required = feature::version_1 | (translated_ ? feature::access_platform : 0);
        if ((accepted_ & ~all_features()) != 0 || (accepted_ & required) != required) {
            status_ |= static_cast<std::uint8_t>(added & ~status::features_ok & ~status::driver_ok);
            return;
        }
    }
    status_ |= added;
    if ((added & status::driver_ok) != 0 && (status_ & status::features_ok) != 0)
        activate();
}

bool TransportCore::set_needs_reset() {
    // Called with the device's lock held. A vCPU may hold mutex_ and wait for that lock, so mutex_ is not taken here.
    return (status_.fetch_or(status::needs_reset) & status::driver_ok) != 0;
}

void TransportCore::reset_state() {
    if (const std::uint8_t before = status_.exchange(0); before != 0)
        reset_from_ = before;
    accepted_ = 0;
    for (QueueState& queue : queues_)
        queue = {queue.max_size, queue.max_size, 0, 0, 0, false};
}

std::uint32_t TransportCore::offered(std::uint32_t half) const {
    return half < 2 ? static_cast<std::uint32_t>(all_features() >> (32 * half)) : 0;
}

std::uint32_t TransportCore::accepted(std::uint32_t half) const {
    std::lock_guard lock{mutex_};
    return half < 2 ? static_cast<std::uint32_t>(accepted_ >> (32 * half)) : 0;
}

void TransportCore::accept(std::uint32_t half, std::uint32_t bits) {
    std::lock_guard lock{mutex_};
    // 2.2.1: no change after FEATURES_OK.
    if (half >= 2 || (status_ & status::features_ok) != 0)
        return;
    const std::uint64_t mask = std::uint64_t{0xffffffff} << (32 * half);
    accepted_ = (accepted_ & ~mask) | (std::uint64_t{bits} << (32 * half));
}

TransportCore::QueueState TransportCore::queue(unsigned index) const {
    std::lock_guard lock{mutex_};
    return index < queues_.size() ? queues_[index] : QueueState{};
}

void TransportCore::set_queue(unsigned index, const std::function<void(QueueState&)>& change) {
    std::lock_guard lock{mutex_};
    if (index < queues_.size() && !queues_[index].enabled)
        change(queues_[index]);
}

bool TransportCore::usable(const QueueState& queue) {
    return queue.size != 0 && std::has_single_bit(queue.size) && queue.size <= queue.max_size;
}

Queue TransportCore::make_queue(const QueueState& state) const {
    return Queue{memory_,
                 {state.size, Iova{state.descriptors}, Iova{state.available}, Iova{state.used}},
                 (accepted_ & feature::event_index) != 0};
}

void TransportCore::enable_queue(unsigned index) {
    std::lock_guard lock{mutex_};
    if (index >= queues_.size() || queues_[index].enabled || !usable(queues_[index]))
        return;
    queues_[index].enabled = true;
    if ((status_ & status::driver_ok) != 0 && (accepted_ & feature::ring_reset) != 0)
        device_->enable_queue(index, make_queue(queues_[index]));
}

void TransportCore::reset_queue(unsigned index) {
    std::lock_guard lock{mutex_};
    if (index >= queues_.size())
        return;
    device_->reset_queue(index);
    queues_[index] = {queues_[index].max_size, queues_[index].max_size, 0, 0, 0, false};
}

std::vector<std::optional<Queue>> TransportCore::make_queues() const {
    std::vector<std::optional<Queue>> queues;
    for (const QueueState& state : queues_)
        queues.push_back(state.enabled ? std::optional{make_queue(state)} : std::nullopt);
    return queues;
}

void TransportCore::activate() { device_->activate(memory_, make_queues(), accepted_, notifier_); }

/// The status that a driver sees while a reset is not done is not saved: a device at rest has none under way.
void TransportCore::state(State& state) {
    std::lock_guard lock{mutex_};
    bool active = device_->active();
    state.version(1);
    atomic_number(state, "status", status_);
    atomic_number(state, "config_generation", generation_);
    state.number("accepted_features", accepted_);
    state.flag("active", active);
    queues_state(state);
    if (state.ok())
        check_status(state, active);
    if (state.restores() && state.ok() && active)
        device_->restore(memory_, make_queues(), accepted_, notifier_);
    if (state.ok())
        state.part("device", [&](State& part) { device_->state(part); });
}

void TransportCore::queues_state(State& state) {
    std::vector<QueueState> queues = queues_;
    state.list("queues", queues, queues_.size(), [](State& one, QueueState& queue) {
        one.number("size", queue.size);
        one.number("max_size", queue.max_size);
        one.number("descriptors", queue.descriptors);
        one.number("available", queue.available);
        one.number("used", queue.used);
        one.flag("enabled", queue.enabled);
    });
    state.check(queues.size() == queues_.size(), "another number of queues");
    for (std::size_t i = 0; state.ok() && i < queues.size(); ++i) {
        state.check(queues[i].max_size == queues_[i].max_size, "queues of another size");
        state.check(!queues[i].enabled || usable(queues[i]), "a queue in use has an impossible size");
    }
    if (state.ok())
        queues_ = std::move(queues);
}

/// What a driver uses must be there; what it does not know of may be.
void TransportCore::check_status(State& state, bool active) const {
    const std::uint64_t missing = accepted_ & ~all_features();
    const bool agreed = (status_ & status::features_ok) != 0;
    state.check(!agreed || missing == 0,
                format("the driver uses features that the device does not have here (%#llx)", hex(missing)).c_str());
    state.check(!agreed || (accepted_ & feature::access_platform) != 0 || !translated_,
                "the driver does not use the IOMMU that the device is behind");
    state.check(!active || (agreed && (status_ & status::driver_ok) != 0),
                "the device is active, and its driver has not said so");
}

} // namespace inox::devices::virtio
