// SPDX-License-Identifier: Apache-2.0
// Commands (register CMD): what each checks, what it waits for, and what state it leaves.
#include <algorithm>
#include <bit>

#include "devices/dsa/accelerator.hpp"

namespace inox::devices::dsa {
namespace {

constexpr std::uint32_t operand_of(std::uint32_t value) { return value & 0xfffff; }
constexpr Command command_of(std::uint32_t value) { return static_cast<Command>(value >> 20 & 0x1f); }

// A group's words: queues in the first 8, engines in the next 2.
constexpr unsigned group_words = group_stride / 4;
constexpr unsigned queue_words = 8;
constexpr unsigned engine_word = 8;

bool on_single_queues(Command command) {
    return command == Command::disable_queue || command == Command::drain_queue || command == Command::abort_queue ||
           command == Command::reset_queue;
}
bool aborts(Command command) {
    return command == Command::abort_all || command == Command::abort_queue || command == Command::abort_pasid ||
           command == Command::reset_device || command == Command::reset_queue;
}
bool disables(Command command) {
    return command == Command::disable_device || command == Command::disable_queue ||
           command == Command::reset_device || command == Command::reset_queue;
}

} // namespace

void Accelerator::begin_command(std::uint32_t value, Raise& raise) {
    if (pending_)
        return; // the driver did not wait for the last command: this one is lost
    const Command command = command_of(value);
    const bool interrupt = (value & cmd_interrupt) != 0;
    const auto end = [&](CommandError error) { finish_command(static_cast<std::uint8_t>(error), interrupt, raise); };
    if (command == Command::enable_device)
        return end(enable_device());
    if (command == Command::enable_queue)
        return end(enable_queue(operand_of(value)));
    Pending pending{command, 0, {}, submissions_.load(std::memory_order_relaxed), interrupt};
    if (const auto error = prepare(pending, operand_of(value)); error != CommandError::none)
        return end(error);
    begin(std::move(pending), raise);
}

void Accelerator::begin(Pending pending, Raise& raise) {
    if (disables(pending.command)) {
        for (unsigned index = 0; index < shape_.queues; ++index)
            if ((pending.queues >> index & 1) != 0 && queues_[index].state() == WorkQueue::State::enabled)
                queues_[index].stop_accepting();
        if (pending.command == Command::disable_device)
            state_ = DeviceState::draining;
    }
    if (aborts(pending.command))
        abort(pending.queues, pending.pasid());
    cmdsts_ = cmdsts_active;
    pending_ = std::move(pending);
    try_finish(raise);
}

void Accelerator::reset_function() noexcept {
    Raise raise; // stays empty, because the vectors are reset, too
    const std::lock_guard lock{mutex_};
    pending_.reset(); // cancels what the driver waited for
    Pending pending{Command::reset_device, 0, {}, submissions_.load(std::memory_order_relaxed), false};
    pending.queues = (1U << shape_.queues) - 1;
    begin(std::move(pending), raise);
}

void Accelerator::finish_command(std::uint8_t error, bool interrupt, Raise& raise) {
    cmdsts_ = error;
    if (interrupt)
        set_cause(cause::command, raise);
}

// Enable

CommandError Accelerator::check_groups() const {
    std::uint32_t seen_queues = 0, seen_engines = 0;
    for (unsigned group = 0; group < shape_.engines; ++group) {
        const std::span words = std::span{groups_}.subspan(group * group_words, group_words);
        const std::uint32_t queues = words[0];
        const std::uint32_t engines = words[engine_word];
        const bool beyond = std::ranges::any_of(words.subspan(1, queue_words - 1), [](auto word) { return word != 0; });
        if (beyond || words[engine_word + 1] != 0 || (std::uint64_t{queues} >> shape_.queues) != 0 ||
            (std::uint64_t{engines} >> shape_.engines) != 0)
            return CommandError::group_range;
        if ((queues & seen_queues) != 0)
            return CommandError::group_queues;
        if ((engines & seen_engines) != 0)
            return CommandError::group_engines;
        if ((queues != 0) != (engines != 0))
            return CommandError::group_halves;
        seen_queues |= queues;
        seen_engines |= engines;
    }
    return CommandError::none;
}

CommandError Accelerator::enable_device() {
    if (state_ != DeviceState::disabled)
        return CommandError::device_enabled;
    if (!bus_.bus_master)
        return CommandError::bus_master_off;
    // PASIDs need ATS, and page requests need PASIDs. Without page requests a fault ends its descriptor.
    if ((bus_.pasid && !bus_.ats) || (bus_.page_requests && !bus_.pasid))
        return CommandError::pasid_config;
    std::uint32_t entries = 0;
    for (const auto& queue : queues_)
        entries += queue.size();
    if (entries > shape_.entries)
        return CommandError::queue_sizes;
    if (const auto error = check_groups(); error != CommandError::none)
        return error;
    for (auto& engine : engines_) {
        engine->queues.clear();
        engine->next = 0;
    }
    for (unsigned group = 0; group < shape_.engines; ++group)
        for (unsigned engine = 0; engine < shape_.engines; ++engine)
            if ((groups_[group * group_words + engine_word] >> engine & 1) != 0)
                for (unsigned queue = 0; queue < shape_.queues; ++queue)
                    if ((groups_[group * group_words] >> queue & 1) != 0)
                        engines_[engine]->queues.push_back(queue);
    state_ = DeviceState::enabled;
    return CommandError::none;
}

CommandError Accelerator::enable_queue(std::uint32_t operand) {
    if (operand >= shape_.queues)
        return CommandError::invalid_queue;
    if (state_ != DeviceState::enabled)
        return CommandError::device_disabled;
    auto& queue = queues_[operand];
    if (const auto error = queue.check(bus_.pasid); error != CommandError::none)
        return error;
    const bool served = std::ranges::any_of(
        engines_, [&](const auto& engine) { return std::ranges::count(engine->queues, operand) != 0; });
    if (!served)
        return CommandError::bad_config;
    if (queue.pasid_enabled() && queue.privileged() && !bus_.privileged_mode)
        return CommandError::queue_pasid;
    std::shared_ptr<Space> space;
    if (queue.dedicated() && queue.pasid_enabled()) {
        // The guest names its own PASID, but only the host's is used. It is held while the queue is enabled.
        space = context_.spaces ? context_.spaces->open(queue.pasid()) : nullptr;
        if (!space)
            return CommandError::queue_pasid;
    }
    queue.enable(std::move(space));
    return CommandError::none;
}

// The others

/// Bits 19:16 choose a group of 16 queues; bits 15:0 select queues of that group.
CommandError Accelerator::select_queues(Pending& pending, std::uint32_t operand) const {
    const std::uint32_t mask = operand & 0xffff;
    if (operand >> 16 != 0 || mask == 0 || mask >> shape_.queues != 0)
        return CommandError::invalid_queue;
    if (state_ == DeviceState::disabled && pending.command != Command::reset_queue)
        return CommandError::device_not_enabled;
    for (unsigned index = 0; index < shape_.queues; ++index)
        if ((mask >> index & 1) != 0 && pending.command != Command::reset_queue &&
            queues_[index].state() == WorkQueue::State::disabled)
            return CommandError::queue_not_enabled;
    pending.queues = mask;
    return CommandError::none;
}

CommandError Accelerator::prepare(Pending& pending, std::uint32_t operand) {
    pending.queues = (1U << shape_.queues) - 1;
    if (on_single_queues(pending.command))
        return select_queues(pending, operand);
    switch (pending.command) {
    case Command::reset_device:
        return CommandError::none;
    case Command::disable_device:
    case Command::drain_all:
    case Command::abort_all:
        return state_ == DeviceState::enabled ? CommandError::none : CommandError::device_not_enabled;
    case Command::drain_pasid:
    case Command::abort_pasid:
        if (state_ != DeviceState::enabled)
            return CommandError::device_not_enabled;
        pending.space = context_.spaces ? context_.spaces->open(iommu::GuestPasid{operand}) : nullptr;
        if (!pending.space)
            pending.queues = 0; // nobody has this PASID, so nothing here belongs to it
        return CommandError::none;
    default:
        return CommandError::invalid_command;
    }
}

void Accelerator::abort(std::uint32_t queues, std::optional<iommu::HostPasid> pasid) {
    for (unsigned index = 0; index < shape_.queues; ++index)
        if ((queues >> index & 1) != 0)
            queues_[index].abort(pasid);
    for (auto& engine : engines_)
        if (engine->running && (queues >> engine->queue & 1) != 0 && (!pasid || engine->pasid == pasid))
            engine->cancelled = true;
    interrupt_engines();
    if (paused_)
        work_.notify_all(); // an engine that is to abort may rest in the middle of its work
}

void Accelerator::forget(iommu::HostPasid pasid) noexcept {
    Raise raise;
    {
        const std::lock_guard lock{mutex_};
        abort(~0U, pasid);
        for (auto& queue : queues_)
            if (queue.space() && queue.space()->pasid() == pasid)
                queue.revoke();
        for (auto& permission : permissions_)
            if (permission.space && permission.space->pasid() == pasid)
                permission.space.reset();
        try_finish(raise);
    }
    deliver(raise);
}

bool Accelerator::quiet(const Pending& pending) const {
    for (unsigned index = 0; index < shape_.queues; ++index)
        if ((pending.queues >> index & 1) != 0 && queues_[index].waits(pending.number, pending.pasid()))
            return false;
    return std::ranges::none_of(engines_, [&](const auto& engine) {
        return engine->running && (pending.queues >> engine->queue & 1) != 0 && engine->number <= pending.number &&
               (!pending.pasid() || engine->pasid == pending.pasid());
    });
}

void Accelerator::try_finish(Raise& raise) {
    if (!pending_ || !quiet(*pending_))
        return;
    const Pending done = std::move(*pending_);
    pending_.reset();
    complete(done);
    finish_command(static_cast<std::uint8_t>(CommandError::none), done.interrupt, raise);
}

void Accelerator::complete(const Pending& pending) {
    if (!disables(pending.command))
        return;
    for (unsigned index = 0; index < shape_.queues; ++index) {
        if ((pending.queues >> index & 1) == 0)
            continue;
        queues_[index].disable();
        if (pending.command == Command::reset_queue)
            queues_[index].reset_config(state_ != DeviceState::disabled);
    }
    if (pending.command == Command::disable_device)
        state_ = DeviceState::disabled;
    if (pending.command == Command::reset_device)
        reset_all();
}

void Accelerator::reset_all() {
    state_ = DeviceState::disabled;
    for (auto& queue : queues_)
        queue.reset_config(false);
    groups_ = {};
    permissions_ = {};
    gencfg_ = genctrl_ = intcause_ = 0;
    swerr_ = {};
}

} // namespace inox::devices::dsa
