// SPDX-License-Identifier: Apache-2.0
// A request's way through the engine to the used ring.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "devices/virtio/block/block.hpp"
#include "devices/virtio/block/file.hpp"

namespace inox::devices::virtio {
namespace {

// The host may take long for discards and zeroes, so they are split. With a bandwidth limit, other requests are served
// between the pieces; without one, a piece is the longest time in which a worker cannot be stopped.
constexpr std::uint64_t limited_piece = MiB;
constexpr std::uint64_t unlimited_piece = 32 * MiB;

constexpr std::uint64_t bit(unsigned index) { return std::uint64_t{1} << index; }
constexpr bool transfers(BlockRequestKind kind) {
    return kind == BlockRequestKind::read || kind == BlockRequestKind::write;
}
constexpr bool changes(BlockRequestKind kind) {
    return kind == BlockRequestKind::write || kind == BlockRequestKind::discard ||
           kind == BlockRequestKind::write_zeroes;
}

BlockJobKind job_kind(BlockRequestKind kind) {
    switch (kind) {
    case BlockRequestKind::read:
        return BlockJobKind::read;
    case BlockRequestKind::write:
        return BlockJobKind::write;
    case BlockRequestKind::discard:
        return BlockJobKind::discard;
    case BlockRequestKind::write_zeroes:
        return BlockJobKind::write_zeroes;
    case BlockRequestKind::flush:
    case BlockRequestKind::get_id:
        break;
    }
    return BlockJobKind::flush;
}

} // namespace

void Block::begin(Slot& slot) noexcept {
    const BlockRequestKind kind = slot.request.kind;
    if (kind == BlockRequestKind::get_id) {
        give_serial(slot);
        return answer(slot, BlockStatus::ok);
    }
    slot.kind = job_kind(kind);
    slot.file = file_;
    // If an image was truncated, writing behind its end would make it grow again, full of holes.
    if (changes(kind) && !present(slot.request)) {
        slot.error = BlockJob::ended_early;
        return fail(slot);
    }
    if (translated()) {
        if (transfers(kind)) {
            slot.pin.ranges.swap(slot.chain.addresses);
            memory().pin(slot.pin);
        } else { // these need only the status byte, at their end
            slot.status_at = slot.chain.addresses.back().last();
        }
    }
    const bool through = writes_through();
    slot.durable = through;
    slot.steps_done = 0;
    slot.range_done = 0;
    slot.ends_with_flush = kind == BlockRequestKind::flush
                               ? options_.cache != BlockCache::unsafe
                               : through && changes(kind) && kind != BlockRequestKind::write;
    next_step(slot);
}

bool Block::present(const BlockRequest& request) noexcept {
    if (!std::exchange(size_known_, true))
        present_size_ = file_->present_size();
    return std::ranges::all_of(std::span{request.ranges}.first(request.range_count), [this](const BlockRange& range) {
        return range.offset + range.length <= present_size_;
    });
}

bool Block::writes_through() const noexcept {
    if (options_.cache != BlockCache::writeback)
        return options_.cache == BlockCache::writethrough;
    // 5.2.6.2: a driver that can neither flush nor set the field expects stable writes.
    return negotiated(block_feature::config_wce) ? !writeback_ : !negotiated(block_feature::flush);
}

/// Pieces end at multiples of their size, so that no block of the file system is cut in two.
std::uint64_t Block::piece(const BlockRange& range, std::uint64_t done) const noexcept {
    const std::uint64_t most = limiter_.limits_bandwidth() ? limited_piece : unlimited_piece;
    return std::min(range.length - done, most - (range.offset + done) % most);
}

/// Does one range after the other, splits those that move no data into pieces, then flushes.
void Block::next_step(Slot& slot) noexcept {
    const BlockRequest& request = slot.request;
    if (slot.steps_done < request.range_count) {
        const BlockRange& range = request.ranges[slot.steps_done];
        slot.kind = job_kind(request.kind);
        slot.offset = range.offset + slot.range_done;
        slot.length = transfers(request.kind) ? range.length : piece(range, slot.range_done);
        slot.unmap = range.unmap;
        slot.data = !transfers(request.kind)                 ? nullptr
                    : request.kind == BlockRequestKind::read ? &slot.chain.writable
                                                             : &slot.chain.readable;
    } else if (slot.steps_done == request.range_count && slot.ends_with_flush) {
        slot.kind = BlockJobKind::flush;
        slot.data = nullptr;
    } else {
        count(request);
        return answer(slot, BlockStatus::ok);
    }
    slot.error = 0;
    slot.in_engine = true;
    engine_->submit(slot);
}

/// Takes at most as many jobs as the engine's depth, because an engine may finish new jobs within this call.
void Block::run_engine() noexcept {
    for (unsigned n = 0; n < BlockEngine::depth; ++n) {
        BlockJob* job = engine_->take_finished();
        if (!job) {
            if (engine_->stalled())
                serve_soon();
            return;
        }
        finish_step(static_cast<Slot&>(*job));
    }
    serve_soon();
}

void Block::finish_step(Slot& slot) noexcept {
    slot.in_engine = false;
    if (slot.request.kind == BlockRequestKind::read)
        slot.chain.wrote(); // whatever becomes of it, the kernel may have written
    if (slot.orphan || slot.cancelled)
        return drop(slot);
    if (slot.error != 0)
        return fail(slot);
    const BlockRequest& request = slot.request;
    if (slot.steps_done < request.range_count && !transfers(request.kind)) {
        slot.range_done += slot.length;
        if (slot.range_done != request.ranges[slot.steps_done].length)
            return go_on(slot);
        slot.range_done = 0;
    }
    ++slot.steps_done;
    go_on(slot);
}

/// The rate limit counts each piece separately.
bool Block::held_back(const Slot& slot) noexcept {
    return !at_rest() && (throttled_ || throttle(piece(slot.request.ranges[slot.steps_done], slot.range_done), 0));
}

void Block::go_on(Slot& slot) noexcept {
    if (slot.steps_done < slot.request.range_count && held_back(slot))
        paused_.push_back(&slot);
    else
        next_step(slot);
}

void Block::next_pieces() noexcept {
    for (std::size_t left = paused_.size(); left != 0; --left) {
        Slot& slot = *paused_.front();
        if (held_back(slot))
            break;
        paused_.pop_front();
        next_step(slot);
    }
    run_engine();
}

/// Ends a request without notifying the driver.
void Block::drop(Slot& slot) noexcept {
    if (slot.orphan && transfers(slot.request.kind))
        orphans_.fetch_sub(1, std::memory_order_release);
    slot.pin.release();
    release(slot);
}

void Block::cancel(Slot& slot) noexcept {
    slot.cancelled = true;
    engine_->cancel(slot);
}

/// Orphans the requests of these queues.
void Block::abandon(std::uint64_t queues) noexcept {
    std::erase_if(paused_, [&](Slot* slot) {
        const bool gone = (queues & bit(slot->queue)) != 0;
        if (gone)
            drop(*slot);
        return gone;
    });
    for (Slot& slot : slots_) {
        if (!slot.in_engine || slot.orphan || (queues & bit(slot.queue)) == 0)
            continue;
        slot.orphan = true;
        if (transfers(slot.request.kind))
            orphans_.fetch_add(1, std::memory_order_relaxed);
        cancel(slot);
    }
}

void Block::pins_overdue() noexcept {
    with_lock([this](bool active) {
        bool any = false;
        for (Slot& slot : slots_)
            if (slot.in_engine && slot.pin.overdue()) {
                cancel(slot);
                any = true;
            }
        if (!any)
            return;
        if (active)
            stop_failed("a request was cancelled: it did not end, and the guest unmapped its memory");
    });
    engine_ready();
}

void Block::fail(Slot& slot) noexcept {
    block_counters_.failures.fetch_add(1, std::memory_order_relaxed);
    log_failure(slot);
    answer(slot, BlockStatus::io_error);
}

std::byte* Block::status_byte(Slot& slot) noexcept {
    if (!slot.status_at)
        return slot.request.status;
    std::vector<iovec>& found = slot.chain.writable;
    found.clear();
    TranslationLimit limit{1, 1};
    const auto place = *Range<Iova>::sized(*slot.status_at, 1);
    if (memory().translate(place, Access::write, found, limit) != Translated::whole) {
        note_bad_request("its status byte was unmapped meanwhile");
        return nullptr;
    }
    return static_cast<std::byte*>(found[0].iov_base);
}

void Block::answer(Slot& slot, BlockStatus status) noexcept {
    std::byte* byte = status_byte(slot);
    if (byte) {
        *byte = static_cast<std::byte>(status);
        memory().wrote(byte, 1);
    }
    // The driver may unmap as soon as it sees the used element, and must not find the pin then.
    slot.pin.release();
    if (Queue* ring = queue(slot.queue); ring && ring->refresh()) // the ring may have moved meanwhile
        ring->push(slot.chain.head, byte ? slot.request.answer : 0);
    touched_ |= bit(slot.queue);
    release(slot);
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
    case BlockRequestKind::read:
        add(counters.read_bytes, request.bytes());
        return add(counters.reads, 1);
    case BlockRequestKind::write:
        add(counters.write_bytes, request.bytes());
        return add(counters.writes, 1);
    case BlockRequestKind::flush:
        return add(counters.flushes, 1);
    case BlockRequestKind::discard:
    case BlockRequestKind::write_zeroes:
        return add(counters.discards, 1);
    case BlockRequestKind::get_id:
        return;
    }
}

void Block::log_failure(const Slot& slot) noexcept {
    if (!failure_log_.allow())
        return;
    static constexpr std::array verbs{"reading from", "writing to", "flushing", "discarding part of",
                                      "zeroing part of"};
    log::write(log::Level::error, "%s: %s '%s' failed: %s", name().c_str(), verbs[static_cast<std::size_t>(slot.kind)],
               slot.file->path().c_str(),
               slot.error == BlockJob::ended_early ? "the image is smaller than it was" : std::strerror(slot.error));
}

} // namespace inox::devices::virtio
