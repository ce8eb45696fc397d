// SPDX-License-Identifier: Apache-2.0
// From the available ring through the engine to the used ring.
#include <algorithm>
#include <array>
#include <cstring>

#include "devices/virtio/block.hpp"

namespace devices::virtio {
namespace {

using Kind = BlockRequest::Kind;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

/// What one turn may take on before the loop's other work gets its chance.
constexpr std::uint64_t turn_bytes = 16 * vmm::MiB;

constexpr bool transfers(Kind kind) { return kind == Kind::read || kind == Kind::write; }
/// Against turn_bytes. A range to discard or zero may be large and take the host little time, or long.
std::uint64_t cost(const BlockRequest& request) {
    return std::max(transfers(request.kind) ? request.bytes() : request.range_count * vmm::MiB, vmm::page_size);
}

constexpr std::uint64_t bit(unsigned index) { return std::uint64_t{1} << index; }
static_assert(Block::max_queues <= 64);

constexpr bool changes(Kind kind) { return kind == Kind::write || kind == Kind::discard || kind == Kind::write_zeroes; }

BlockJob::Kind job_kind(Kind kind) {
    switch (kind) {
    case Kind::read:
        return BlockJob::Kind::read;
    case Kind::write:
        return BlockJob::Kind::write;
    case Kind::discard:
        return BlockJob::Kind::discard;
    case Kind::write_zeroes:
        return BlockJob::Kind::write_zeroes;
    case Kind::flush:
    case Kind::get_id:
        break;
    }
    return BlockJob::Kind::flush;
}

} // namespace

void Block::on_kick(unsigned index) noexcept { serve(bit(index)); }

void Block::serve(std::uint64_t queues) noexcept {
    const auto hold = memory().hold();
    size_known_ = false;
    budget_ = turn_bytes;
    run_engine();
    starved_ |= queues;
    if (!stopped() && !throttled_) {
        queues = std::exchange(starved_, 0);
        const unsigned first = next_queue_++;
        for (unsigned n = 0; n < options_.queues; ++n)
            if (const unsigned index = (first + n) % options_.queues; (queues & bit(index)) != 0)
                serve_queue(index);
    }
    signal_touched();
    for (unsigned index = 0; index < options_.queues; ++index)
        if (const Queue* used = queue(index); used && used->broken())
            stop_broken(used->broken_reason());
}

void Block::serve_queue(unsigned index) noexcept {
    Queue* ring = queue(index);
    if (!ring || !ring->refresh())
        return;
    for (;;) {
        ring->ask_notifications(false);
        const Next next = throttled_ ? Next::later : take_requests(*ring, index);
        run_engine();
        signal_touched();
        if (next == Next::later || (next == Next::engine_full && in_flight_ == BlockEngine::depth)) {
            starved_ |= bit(index);
            return;
        }
        if (next == Next::engine_full)
            continue;
        ring->ask_notifications(true);
        if (!ring->has_work())
            return;
    }
}

Block::Next Block::take_requests(Queue& ring, unsigned index) noexcept {
    for (;;) {
        if (budget_ == 0) {
            serve_soon();
            return Next::later;
        }
        if (in_flight_ == BlockEngine::depth)
            return Next::engine_full;
        Slot& slot = take_slot();
        if (!ring.pop(slot.chain)) {
            release(slot);
            return Next::empty;
        }
        slot.queue = index;
        if (!take(slot, ring)) {
            release(slot);
            return Next::later;
        }
    }
}

/// False when a rate limit holds the request back; it is in the ring again then.
bool Block::take(Slot& slot, Queue& ring) noexcept {
    const BlockLimits limits{file_.size() / sector_size, options_.read_only};
    const BlockVerdict verdict = parse(slot.chain, limits, slot.request);
    const std::uint64_t bytes = transfers(slot.request.kind) ? slot.request.bytes() : 0;
    if (!verdict.problem && throttle(bytes)) {
        ring.undo_pop();
        return false;
    }
    budget_ -= std::min(budget_, cost(slot.request));
    if (verdict.problem) {
        note_bad_request(verdict.problem);
        answer(slot, verdict.status);
    } else {
        begin(slot);
    }
    return true;
}

bool Block::throttle(std::uint64_t bytes) noexcept {
    if (limiter_.unlimited())
        return false;
    const nanoseconds wait = limiter_.spend(bytes, steady_clock::now());
    if (wait.count() == 0)
        return false;
    throttled_ = true;
    block_counters_.throttled.fetch_add(1, std::memory_order_relaxed);
    timer_ = loop_.after(wait, [this] {
        locked([this] {
            throttled_ = false;
            serve(0);
        });
    });
    return true;
}

Block::Slot& Block::take_slot() {
    ++in_flight_;
    if (free_slots_.empty())
        return slots_.emplace_back();
    Slot& slot = *free_slots_.back();
    free_slots_.pop_back();
    return slot;
}

void Block::release(Slot& slot) noexcept {
    --in_flight_;
    free_slots_.push_back(&slot);
}

void Block::begin(Slot& slot) noexcept {
    const Kind kind = slot.request.kind;
    if (kind == Kind::get_id) {
        give_serial(slot);
        return answer(slot, BlockStatus::ok);
    }
    slot.kind = job_kind(kind);
    // Writing behind the end of an image that was cut would bring it back full of holes.
    if (changes(kind) && !present(slot.request)) {
        slot.error = BlockJob::ended_early;
        return fail(slot);
    }
    const bool through = writes_through();
    slot.durable = through;
    slot.steps_done = 0;
    slot.ends_with_flush =
        kind == Kind::flush ? options_.cache != BlockCache::unsafe : through && changes(kind) && kind != Kind::write;
    next_step(slot);
}

bool Block::present(const BlockRequest& request) noexcept {
    if (!std::exchange(size_known_, true))
        present_size_ = file_.present_size();
    return std::ranges::all_of(std::span{request.ranges}.first(request.range_count), [this](const BlockRange& range) {
        return range.offset + range.length <= present_size_;
    });
}

bool Block::writes_through() const noexcept {
    if (options_.cache != BlockCache::writeback)
        return options_.cache == BlockCache::writethrough;
    // 5.2.6.2: a driver that can neither flush nor set the field expects writes to be stable.
    return negotiated(block_feature::config_wce) ? !writeback_ : !negotiated(block_feature::flush);
}

/// Ranges one after the other, then the flush.
void Block::next_step(Slot& slot) noexcept {
    const BlockRequest& request = slot.request;
    if (slot.steps_done < request.range_count) {
        const BlockRange& range = request.ranges[slot.steps_done];
        slot.kind = job_kind(request.kind);
        slot.offset = range.offset;
        slot.length = range.length;
        slot.unmap = range.unmap;
        slot.data = request.kind == Kind::read ? &slot.chain.writable : &slot.chain.readable;
    } else if (slot.steps_done == request.range_count && slot.ends_with_flush) {
        slot.kind = BlockJob::Kind::flush;
    } else {
        count(request);
        return answer(slot, BlockStatus::ok);
    }
    slot.file = &file_;
    slot.error = 0;
    engine_->submit(slot);
}

void Block::run_engine() noexcept {
    const auto wait = translated() ? BlockEngine::Wait::yes : BlockEngine::Wait::no;
    while (BlockJob* job = engine_->take_finished(wait))
        finish_step(static_cast<Slot&>(*job));
    if (engine_->stalled())
        serve_soon();
}

void Block::finish_step(Slot& slot) noexcept {
    if (slot.error != 0)
        return fail(slot);
    ++slot.steps_done;
    next_step(slot);
}

void Block::finish_all(bool tell_driver) noexcept {
    while (BlockJob* job = engine_->take_finished(BlockEngine::Wait::yes)) {
        if (auto& slot = static_cast<Slot&>(*job); tell_driver)
            finish_step(slot);
        else
            release(slot);
    }
    signal_touched();
}

void Block::fail(Slot& slot) noexcept {
    block_counters_.failures.fetch_add(1, std::memory_order_relaxed);
    log_failure(slot);
    answer(slot, BlockStatus::io_error);
}

void Block::answer(Slot& slot, BlockStatus status) noexcept {
    const BlockRequest& request = slot.request;
    if (request.status)
        *request.status = static_cast<std::byte>(status);
    if (Queue* ring = queue(slot.queue))
        ring->push(slot.chain.head, request.status ? request.answer : 0);
    touched_ |= bit(slot.queue);
    release(slot);
}

void Block::signal_touched() noexcept {
    for (std::uint64_t left = std::exchange(touched_, 0); left != 0; left &= left - 1)
        signal(static_cast<unsigned>(std::countr_zero(left)));
}

void Block::serve_soon() noexcept {
    if (std::exchange(posted_, true))
        return;
    loop_.post([weak = weak_from_this()] {
        const auto self = weak.lock();
        if (!self)
            return;
        self->with_lock([&](bool active) {
            self->posted_ = false;
            if (active)
                self->serve(0);
        });
    });
}

void Block::give_serial(const Slot& slot) const noexcept {
    std::array<char, 20> text{}; // 5.2.6.1: no terminator when all of it is used
    const std::string& serial = options_.serial.empty() ? options_.id : options_.serial;
    std::ranges::copy_n(serial.begin(), static_cast<std::ptrdiff_t>(std::min(serial.size(), text.size())),
                        text.begin());
    slot.chain.copy_to(0, std::as_bytes(std::span{text}));
}

void Block::count(const BlockRequest& request) noexcept {
    auto add = [](std::atomic<std::uint64_t>& counter, std::uint64_t n) {
        counter.fetch_add(n, std::memory_order_relaxed);
    };
    BlockCounters& counters = block_counters_;
    switch (request.kind) {
    case Kind::read:
        add(counters.read_bytes, request.bytes());
        return add(counters.reads, 1);
    case Kind::write:
        add(counters.write_bytes, request.bytes());
        return add(counters.writes, 1);
    case Kind::flush:
        return add(counters.flushes, 1);
    case Kind::discard:
    case Kind::write_zeroes:
        return add(counters.discards, 1);
    case Kind::get_id:
        return;
    }
}

void Block::log_failure(const Slot& slot) noexcept {
    if (!failure_log_.allow())
        return;
    static constexpr std::array verbs{"reading from", "writing to", "flushing", "discarding part of",
                                      "zeroing part of"};
    vmm::log::write(vmm::log::Level::error, "%s: %s '%s' failed: %s", name().c_str(),
                    verbs[static_cast<std::size_t>(slot.kind)], file_.path().c_str(),
                    slot.error == BlockJob::ended_early ? "the image is smaller than it was"
                                                        : std::strerror(slot.error));
}

} // namespace devices::virtio
