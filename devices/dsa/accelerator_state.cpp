// SPDX-License-Identifier: Apache-2.0
// The accelerator over a save and a restore. It is saved with nothing under way: descriptors are done before, each with
// its completion record, so that none is lost and none is done twice.
#include "devices/dsa/accelerator.hpp"

#include <algorithm>
#include <utility>

#include "vmm/base/state.hpp"

namespace inox::devices::dsa {

bool Accelerator::drain() noexcept {
    const std::lock_guard lock{mutex_};
    paused_ = false;
    interrupt_engines();
    work_.notify_all();
    return !pending_ && std::ranges::all_of(queues_, [](const WorkQueue& queue) { return queue.empty(); }) &&
           std::ranges::all_of(engines_, [](const auto& engine) { return !engine->running && engine->at_rest; });
}

void Accelerator::state(State& state) {
    const std::lock_guard lock{mutex_};
    Shape shape = shape_;
    state.version(1);
    state.number("queues", shape.queues);
    state.number("entries", shape.entries);
    state.number("engines", shape.engines);
    state.check(shape == shape_, "the accelerator has another shape here");
    if (!state.ok())
        return;
    registers_state(state);
    if (state.ok())
        queues_state(state);
}

void Accelerator::registers_state(State& state) {
    struct Word {
        std::uint32_t value{};
    };
    std::vector<Word> permissions;
    for (unsigned vector = 0; vector < vectors(); ++vector)
        permissions.push_back({permissions_[vector].word});
    state.number("gencfg", gencfg_);
    state.number("genctrl", genctrl_);
    state.number("intcause", intcause_);
    state.number("cmdsts", cmdsts_, 0U, 0xffU);
    state.pod("swerr", swerr_);
    state.pod("groups", groups_);
    state.list("permissions", permissions, vectors(), [](State& one, Word& word) { one.number("word", word.value); });
    state.check((gencfg_ & ~gencfg_mask) == 0 && (genctrl_ & ~genctrl_mask) == 0 && permissions.size() == vectors(),
                "a register has bits that there are not");
    if (!state.restores() || !state.ok())
        return;
    for (unsigned vector = 0; vector < permissions.size(); ++vector)
        set_permission(vector, permissions[vector].value);
}

/// A driver may have turned off at the bus what it needed when it enabled the device: that is no reason to refuse here.
void Accelerator::queues_state(State& state) {
    bool enabled = state_ != DeviceState::disabled;
    std::vector<char> on;
    for (const WorkQueue& queue : queues_)
        on.push_back(queue.state() != WorkQueue::State::disabled);
    state.flag("enabled", enabled);
    for (unsigned index = 0; index < shape_.queues; ++index)
        state.part(("queue" + std::to_string(index)).c_str(), [&](State& part) {
            bool is_on = on[index] != 0;
            part.flag("enabled", is_on);
            queues_[index].state(part);
            on[index] = is_on;
        });
    if (!state.restores() || !state.ok() || !enabled)
        return state.check(enabled || std::ranges::count(on, 0) == std::ssize(on),
                           "a queue of a disabled device is on");
    const BusState bus = std::exchange(bus_, {.bus_master = true, .pasid = true, .privileged_mode = true, .ats = true});
    state.check(enable_device() == CommandError::none, "an enabled device that cannot be");
    for (unsigned index = 0; state.ok() && index < shape_.queues; ++index) {
        auto& queue = queues_[index];
        if (on[index] == 0)
            continue;
        const bool served = std::ranges::any_of(
            engines_, [&](const auto& engine) { return std::ranges::count(engine->queues, index) != 0; });
        state.check(served && queue.check(true) == CommandError::none, "an enabled queue that cannot be");
        const bool named = queue.dedicated() && queue.pasid_enabled() && context_.spaces;
        if (state.ok()) // without a space its PASID is bound to nothing any more, and its work fails
            queue.enable(named ? context_.spaces->open(queue.pasid()) : nullptr);
    }
    bus_ = bus;
}

} // namespace inox::devices::dsa
