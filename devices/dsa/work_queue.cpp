// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/work_queue.hpp"

#include <algorithm>
#include <span>

#include "vmm/base/state.hpp"

namespace inox::devices::dsa {
namespace {

/// The bits of each word that the driver may set.
constexpr std::array<std::uint32_t, wq::words> writable{0xffff, 0xffff, 0x3fffffff, 0x1ff, 0xffff, 0x1ffff, 0, 0};

bool matches(const Submission& submission, std::optional<iommu::HostPasid> pasid) {
    return !pasid || (submission.by_pasid && submission.space && submission.space->pasid() == *pasid);
}

} // namespace

std::uint32_t WorkQueue::word(unsigned index) const {
    if (index != wq::state_word)
        return words_[index];
    return static_cast<std::uint32_t>(waiting_.size()) | wq::both_modes | static_cast<std::uint32_t>(state_) << 30;
}

void WorkQueue::write(unsigned index, std::uint32_t value, bool device_enabled) {
    if (state_ == State::disabled && !(device_enabled && index == wq::size_word))
        words_[index] = value & writable[index];
}

void WorkQueue::state(inox::State& state) {
    auto words = words_;
    state.bytes("words", std::as_writable_bytes(std::span{words}));
    for (unsigned index = 0; index < words.size(); ++index)
        state.check((words[index] & ~writable[index]) == 0, "a queue's register has bits that there are not");
    if (state.ok())
        words_ = words;
}

CommandError WorkQueue::check(bool pasid_on) const {
    if (state_ != State::disabled)
        return CommandError::queue_enabled;
    if (size() == 0)
        return CommandError::queue_size;
    if (priority() == 0)
        return CommandError::queue_priority;
    if (!dedicated() && (threshold() == 0 || threshold() > size()))
        return CommandError::queue_mode;
    if ((words_[wq::mode_word] & wq::block_on_fault) != 0)
        return CommandError::queue_block_on_fault;
    if (pasid_enabled() ? !pasid_on : !dedicated())
        return CommandError::queue_pasid;
    if ((words_[wq::shift_word] >> 5 & 0xf) > max_batch_shift)
        return CommandError::queue_batch;
    return CommandError::none; // the transfer shift has too few bits to exceed the device
}

void WorkQueue::enable(std::shared_ptr<Space> space) {
    space_ = std::move(space);
    state_ = State::enabled;
}

void WorkQueue::reset_config(bool device_enabled) {
    const auto size = words_[wq::size_word];
    words_ = {};
    if (device_enabled)
        words_[wq::size_word] = size;
}

void WorkQueue::revoke() {
    state_ = State::busy;
    waiting_.clear();
    revoked_ = true;
    if (running_ == 0)
        disable();
}

void WorkQueue::finished() {
    if (--running_ == 0 && revoked_)
        disable();
}

void WorkQueue::disable() {
    revoked_ = false;
    state_ = State::disabled;
    space_.reset();
}

bool WorkQueue::has_room(bool limited) const {
    return waiting_.size() < (limited && !dedicated() ? threshold() : size());
}

bool WorkQueue::ready() const {
    return !waiting_.empty() && (running_ == 0 || waiting_.front().descriptor.opcode() != Opcode::drain);
}

Submission WorkQueue::pop() {
    Submission next = std::move(waiting_.front());
    waiting_.pop_front();
    ++running_;
    return next;
}

void WorkQueue::abort(std::optional<iommu::HostPasid> pasid) {
    counts.aborted += std::erase_if(waiting_, [&](const Submission& one) { return matches(one, pasid); });
}

bool WorkQueue::waits(std::uint64_t number, std::optional<iommu::HostPasid> pasid) const {
    return std::ranges::any_of(waiting_,
                               [&](const Submission& one) { return one.number <= number && matches(one, pasid); });
}

} // namespace inox::devices::dsa
