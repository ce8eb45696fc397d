// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/queue.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "vmm/base/state.hpp"

namespace inox::devices::virtio {
namespace {

constexpr std::uint16_t flag_next = 1;
constexpr std::uint16_t flag_write = 2;
constexpr std::uint16_t flag_indirect = 4;
constexpr std::uint16_t no_interrupt = 1; // available ring flags
constexpr std::uint16_t no_notify = 1;    // used ring flags

std::atomic_ref<std::uint16_t> shared(std::byte* ring, std::size_t offset) {
    return std::atomic_ref{*reinterpret_cast<std::uint16_t*>(ring + offset)}; // NOLINT: rings are aligned, checked
}

constexpr std::size_t ring_index = 2; // of the idx field, in both rings
constexpr std::size_t ring_start = 4;

/// Appends the range; if it follows the last one, it becomes a part of that.
void keep_address(std::vector<Range<Iova>>& addresses, Range<Iova> range) {
    if (!addresses.empty() && addresses.back().last().raw() + 1 == range.start().raw() && range.start().raw() != 0)
        addresses.back() = *Range<Iova>::closed(addresses.back().start(), range.last());
    else
        addresses.push_back(range);
}

} // namespace

void Chain::clear() {
    head = {};
    constexpr std::size_t worth_keeping = 64;
    const auto empty = [](auto& pieces) {
        pieces.clear();
        if (pieces.capacity() > worth_keeping)
            pieces.shrink_to_fit();
    };
    empty(readable);
    empty(writable);
    empty(addresses);
}

std::uint64_t Chain::bytes(std::span<const iovec> pieces) {
    std::uint64_t sum = 0;
    for (const iovec& piece : pieces)
        sum += piece.iov_len;
    return sum;
}

std::size_t Chain::copy_from(std::uint64_t offset, std::span<std::byte> to) const {
    std::size_t done = 0;
    if (to.empty()) // see copy_to()
        return done;
    for (const iovec& piece : readable) {
        if (offset >= piece.iov_len) {
            offset -= piece.iov_len;
            continue;
        }
        const auto count = std::min<std::size_t>(piece.iov_len - offset, to.size() - done);
        std::memcpy(to.data() + done, static_cast<const std::byte*>(piece.iov_base) + offset, count);
        done += count;
        offset = 0;
        if (done == to.size())
            break;
    }
    return done;
}

std::size_t Chain::copy_to(std::uint64_t offset, std::span<const std::byte> from) const {
    std::size_t done = 0;
    if (from.empty()) // an empty span may have no address, and memcpy needs one
        return done;
    for (const iovec& piece : writable) {
        if (offset >= piece.iov_len) {
            offset -= piece.iov_len;
            continue;
        }
        const auto count = std::min<std::size_t>(piece.iov_len - offset, from.size() - done);
        auto* const to = static_cast<std::byte*>(piece.iov_base) + offset;
        std::memcpy(to, from.data() + done, count);
        if (memory)
            memory->wrote(to, count);
        done += count;
        offset = 0;
        if (done == from.size())
            break;
    }
    return done;
}

void Chain::wrote() const noexcept {
    if (memory)
        memory->wrote(writable);
}

bool drop_front(std::vector<iovec>& pieces, std::uint64_t bytes) {
    if (Chain::bytes(pieces) < bytes)
        return false;
    auto piece = pieces.begin();
    for (; bytes != 0 && bytes >= piece->iov_len; ++piece)
        bytes -= piece->iov_len;
    if (bytes != 0) {
        piece->iov_base = static_cast<std::byte*>(piece->iov_base) + bytes;
        piece->iov_len -= bytes;
    }
    pieces.erase(pieces.begin(), piece);
    return true;
}

void keep_front(std::vector<iovec>& pieces, std::uint64_t bytes) {
    std::size_t kept = 0;
    for (; kept < pieces.size() && bytes != 0; ++kept) {
        pieces[kept].iov_len = std::min<std::uint64_t>(pieces[kept].iov_len, bytes);
        bytes -= pieces[kept].iov_len;
    }
    pieces.resize(kept);
}

Queue::Queue(const DmaMemory& memory, const QueueLayout& layout, bool event_index)
    : memory_{memory}, layout_{layout}, event_index_{event_index} {}

bool Queue::fail(const char* reason) noexcept {
    if (!broken_)
        broken_ = reason;
    return false;
}

bool Queue::map(Iova start, std::uint64_t size, Access access, std::byte*& out) noexcept {
    std::vector<iovec> pieces;
    const auto range = Range<Iova>::sized(start, size);
    TranslationLimit limit{1, size / page_size + 2};
    if (!range || memory_.translate(*range, access, pieces, limit) != Translated::whole)
        return false;
    out = static_cast<std::byte*>(pieces[0].iov_base);
    return true;
}

bool Queue::refresh() noexcept {
    if (broken_)
        return false;
    if (generation_ == memory_.generation())
        return true;
    const std::uint64_t size = layout_.size;
    // 2.7: alignment 16, 2, 4. The rings carry two bytes more for the event index.
    if (!is_aligned(layout_.descriptors.raw(), 16) || !is_aligned(layout_.available.raw(), 2) ||
        !is_aligned(layout_.used.raw(), 4))
        return fail("a ring is misaligned");
    if (!map(layout_.descriptors, size * 16, Access::read, descriptors_) ||
        !map(layout_.available, 6 + size * 2, Access::read, available_) ||
        !map(layout_.used, 6 + size * 8, Access::read_write, used_))
        return fail("a ring lies outside the memory the device may reach");
    generation_ = memory_.generation();
    return true;
}

std::uint16_t Queue::available_index() const noexcept {
    // Acquire: the descriptors and ring entries the driver wrote before the index are visible after it.
    return shared(available_, ring_index).load(std::memory_order_acquire);
}

bool Queue::has_work() const noexcept { return !broken_ && available_index() != next_available_; }

bool Queue::pop(Chain& chain) noexcept {
    if (broken_)
        return false;
    const std::uint16_t index = available_index();
    if (index == next_available_)
        return false;
    // 2.7.13.3.1: never more outstanding than the ring holds.
    if (static_cast<std::uint16_t>(index - next_available_) > layout_.size)
        return fail("the available index ran ahead of the ring");
    const std::size_t slot = next_available_ % layout_.size;
    const std::uint16_t head = shared(available_, ring_start + slot * 2).load(std::memory_order_relaxed);
    chain.head = {};
    chain.memory = &memory_;
    chain.readable.clear();
    chain.writable.clear();
    chain.addresses.clear();
    Walk one{chain, head};
    const bool good = walk(one);
    chain.work = one.descriptors + static_cast<std::uint32_t>(max_mappings - one.limit.mappings);
    if (!good)
        return false;
    chain.head = ChainHead{head};
    ++next_available_;
    ++outstanding_;
    return true;
}

void Queue::undo_pop(ChainHead& head) noexcept {
    if (!head)
        return;
    head = {};
    --next_available_;
    --outstanding_;
}

bool Queue::walk(Walk& walk) noexcept {
    std::uint16_t index = walk.head;
    for (;;) {
        if (index >= layout_.size)
            return fail("a descriptor index is out of range");
        if (walk.descriptors++ >= layout_.size)
            return fail("a descriptor chain loops");
        Descriptor descriptor{};
        std::memcpy(&descriptor, descriptors_ + std::size_t{index} * sizeof descriptor, sizeof descriptor);
        if ((descriptor.flags & flag_indirect) != 0) {
            // 2.7.5.3.1: an indirect descriptor ends its chain.
            if ((descriptor.flags & flag_next) != 0)
                return fail("an indirect descriptor has a successor");
            return walk_indirect(descriptor, walk);
        }
        if (!add(descriptor, walk))
            return false;
        if ((descriptor.flags & flag_next) == 0)
            return true;
        index = descriptor.next;
    }
}

bool Queue::walk_indirect(const Descriptor& table, Walk& walk) noexcept {
    const std::uint32_t entries = table.length / sizeof(Descriptor);
    if (entries == 0 || table.length % sizeof(Descriptor) != 0 || entries > max_chain)
        return fail("an indirect table has an impossible length");
    std::uint32_t index = 0;
    for (std::uint32_t count = 0; count < entries; ++count) {
        Descriptor descriptor{};
        ++walk.descriptors;
        if (!memory_.read(Iova{table.address + std::uint64_t{index} * sizeof descriptor},
                          std::as_writable_bytes(std::span{&descriptor, 1})))
            return fail("an indirect table lies outside the memory the device may reach");
        if ((descriptor.flags & flag_indirect) != 0)
            return fail("an indirect table holds an indirect descriptor");
        if (!add(descriptor, walk))
            return false;
        if ((descriptor.flags & flag_next) == 0)
            return true;
        index = descriptor.next;
        if (index >= entries)
            return fail("an indirect descriptor's successor is out of range");
    }
    return fail("an indirect descriptor chain loops");
}

bool Queue::add(const Descriptor& descriptor, Walk& walk) noexcept {
    Chain& chain = walk.chain;
    const bool writable = (descriptor.flags & flag_write) != 0;
    // 2.7.4.2: what the device reads comes before what it writes.
    if (!writable && !chain.writable.empty())
        return fail("a readable descriptor follows a writable one");
    const auto range = Range<Iova>::sized(Iova{descriptor.address}, descriptor.length);
    if (!range)
        return fail("a descriptor is empty or wraps");
    switch (memory_.translate(*range, writable ? Access::write : Access::read,
                              writable ? chain.writable : chain.readable, walk.limit)) {
    case Translated::whole:
        if (chain.keeps_addresses)
            keep_address(chain.addresses, *range);
        return true;
    case Translated::fault:
        return fail("a buffer lies outside the memory the device may reach");
    case Translated::too_many:
        break;
    }
    return fail("a descriptor chain has too many pieces");
}

void Queue::push(ChainHead& head, std::uint32_t written) noexcept {
    const ChainHead taken = std::move(head);
    if (broken_ || !taken)
        return;
    --outstanding_;
    const std::size_t at = ring_start + static_cast<std::size_t>(next_used_ % layout_.size) * 8;
    const std::uint32_t entry[2]{taken.index_, written};
    std::memcpy(used_ + at, entry, sizeof entry);
    ++next_used_;
    // Release: the entry and the buffers are visible before the index.
    shared(used_, ring_index).store(next_used_, std::memory_order_release);
    memory_.wrote(used_ + at, sizeof entry);
    memory_.wrote(used_, ring_start);
}

bool Queue::take_interrupt() noexcept {
    if (broken_ || next_used_ == signalled_used_)
        return false;
    const std::uint16_t old = std::exchange(signalled_used_, next_used_);
    // The index must be visible before the driver's request for interrupts is read, or both sides may wait forever.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!event_index_)
        return (shared(available_, 0).load(std::memory_order_relaxed) & no_interrupt) == 0;
    const std::uint16_t event =
        shared(available_, ring_start + std::size_t{layout_.size} * 2).load(std::memory_order_relaxed);
    if (std::exchange(first_signal_, false))
        return true;
    // 2.7.10.1: has the event index been passed?
    return static_cast<std::uint16_t>(next_used_ - event - 1) < static_cast<std::uint16_t>(next_used_ - old);
}

void Queue::ask_notifications(bool wanted) noexcept {
    if (broken_)
        return;
    if (event_index_) {
        // When not wanted: an index far in the past never matches.
        const auto event = static_cast<std::uint16_t>(wanted ? next_available_ : next_available_ - 0x8000);
        shared(used_, ring_start + std::size_t{layout_.size} * 8).store(event, std::memory_order_relaxed);
    } else {
        shared(used_, 0).store(wanted ? 0 : no_notify, std::memory_order_relaxed);
    }
    wrote_request();
    // The request for notifications must be visible before the caller looks for work again.
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

/// The request for notifications is in one of two places.
void Queue::wrote_request() const noexcept {
    const auto at = event_index_ ? ring_start + std::size_t{layout_.size} * 8 : 0;
    memory_.wrote(used_ + at, sizeof(std::uint16_t));
}

bool Queue::ask_for_more() noexcept {
    if (broken_)
        return true;
    const std::uint16_t there = available_index();
    if (event_index_)
        shared(used_, ring_start + std::size_t{layout_.size} * 8).store(there, std::memory_order_relaxed);
    else
        shared(used_, 0).store(0, std::memory_order_relaxed);
    wrote_request();
    std::atomic_thread_fence(std::memory_order_seq_cst); // as above
    return available_index() == there;
}

void Queue::state(State& state) {
    bool was_broken = broken();
    state.number("next_available", next_available_);
    state.number("next_used", next_used_);
    state.number("signalled_used", signalled_used_);
    state.flag("first_signal", first_signal_);
    state.flag("broken", was_broken);
    if (was_broken)
        (void)fail("it was broken when the machine was saved");
}

} // namespace inox::devices::virtio
