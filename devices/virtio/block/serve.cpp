// SPDX-License-Identifier: Apache-2.0
// The rings: what is taken from them, how much of it in one turn of the loop, and when.
#include <algorithm>
#include <bit>
#include <utility>

#include "devices/virtio/block/block.hpp"
#include "devices/virtio/block/file.hpp"

namespace inox::devices::virtio {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

// What one turn may take before the loop does other work. The kernel copies to and from its page cache during a
// submission, so bytes cost time.
constexpr std::uint64_t turn_bytes = 4 * MiB;
constexpr std::chrono::milliseconds turn_time{2};

constexpr bool transfers(BlockRequestKind kind) {
    return kind == BlockRequestKind::read || kind == BlockRequestKind::write;
}
/// Counted against turn_bytes. Requests without data, many small pieces of memory and many mappings are work, too.
std::uint64_t cost(const Chain& chain, std::uint64_t bytes) {
    const std::uint64_t pieces = chain.readable.size() + chain.writable.size();
    return std::max({bytes, 16 * KiB, pieces * page_size, chain.work * KiB});
}

constexpr std::uint64_t bit(unsigned index) { return std::uint64_t{1} << index; }
static_assert(BlockOptions::max_queues <= 64);

} // namespace

void Block::on_kick(unsigned index) noexcept { serve(bit(index)); }

void Block::serve(std::uint64_t queues) noexcept {
    const auto hold = memory().hold();
    size_known_ = false;
    budget_ = turn_bytes;
    run_engine();
    turn_end_ = steady_clock::now() + turn_time;
    starved_ |= queues;
    if (at_rest()) {
        next_pieces();
    } else if (!stopped() && !throttled_) {
        const bool pieces_first = std::exchange(pieces_first_, !pieces_first_);
        if (pieces_first)
            next_pieces();
        queues = std::exchange(starved_, 0);
        const unsigned first = next_queue_++;
        for (unsigned n = 0; n < options_.queues; ++n)
            if (const unsigned index = (first + n) % options_.queues; (queues & bit(index)) != 0)
                serve_queue(index);
        if (!pieces_first)
            next_pieces();
    }
    signal_touched();
    for (unsigned index = 0; index < options_.queues; ++index)
        if (const Queue* used = queue(index); used && used->broken())
            stop_broken(used->broken_reason());
}

bool Block::turn_is_over() const noexcept { return budget_ == 0 || steady_clock::now() >= turn_end_; }

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
        if (turn_is_over()) {
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

/// The bytes that the rate limit must allow before the request begins.
std::uint64_t Block::first_bytes(const BlockRequest& request) const noexcept {
    if (request.range_count == 0)
        return 0;
    return transfers(request.kind) ? request.bytes() : piece(request.ranges[0], 0);
}

/// False when a rate limit holds the request back; it has been put back into the ring then.
bool Block::take(Slot& slot, Queue& ring) noexcept {
    const BlockLimits limits{file_->size() / sector_size, options_.read_only};
    const BlockVerdict verdict = parse(slot.chain, limits, slot.request);
    const std::uint64_t bytes = verdict.problem ? 0 : first_bytes(slot.request);
    if (throttle(bytes, 1)) {
        ring.undo_pop(slot.chain.head);
        return false;
    }
    budget_ -= std::min(budget_, cost(slot.chain, transfers(slot.request.kind) ? bytes : 0));
    if (verdict.problem) {
        note_bad_request(verdict.problem);
        answer(slot, verdict.status);
    } else {
        begin(slot);
    }
    return true;
}

bool Block::throttle(std::uint64_t bytes, std::uint64_t operations) noexcept {
    if (limiter_.unlimited())
        return false;
    const nanoseconds wait = limiter_.spend(bytes, steady_clock::now(), operations);
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
    if (free_slots_.empty()) {
        slots_.emplace_back().pin.owner = weak_from_this();
        free_slots_.push_back(&slots_.back());
    }
    Slot& slot = *free_slots_.back();
    free_slots_.pop_back();
    slot.chain.keeps_addresses = translated();
    return slot;
}

void Block::release(Slot& slot) noexcept {
    --in_flight_;
    slot.pin.ranges.swap(slot.chain.addresses);
    slot.chain.clear();
    slot.file.reset();
    slot.status_at.reset();
    slot.orphan = slot.cancelled = false;
    free_slots_.push_back(&slot);
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
        self->with_lock([&](bool) { self->posted_ = false; });
        self->engine_ready();
    });
}

void Block::engine_ready() noexcept {
    std::shared_ptr<Block> last;
    with_lock([&](bool active) {
        if (active)
            serve(0);
        else
            finish_orphans();
        if (in_flight_ == 0)
            last = std::exchange(alive_, nullptr);
    });
    if (last) // not destroyed inside the handler of its own watch
        loop_.post([last = std::move(last)] {});
}

} // namespace inox::devices::virtio
