// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/receiver.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

namespace inox::devices::virtio {
namespace {

constexpr std::size_t header_size = sizeof(NetHeader);
constexpr std::size_t max_pieces = IOV_MAX - 1;      // including the header's, without the overflow's
constexpr std::size_t overflow_size = max_frame + 1; // only frames that are too long reach the last byte
constexpr std::uint64_t segments = net_feature::guest_tso4 | net_feature::guest_tso6 | net_feature::guest_ufo;

} // namespace

void NetReceiver::configure(bool mergeable, std::uint64_t offloads, std::uint16_t mtu) {
    mergeable_ = mergeable;
    offloads_ = offloads;
    ahead_ = header_size + ((offloads & segments) != 0 ? max_frame : std::max<unsigned>(mtu, 1500) + 18U);
}

void NetReceiver::forget() noexcept {
    pieces_.resize(1);
    pieces_.shrink_to_fit();
    chain_.clear();
    buffers_.clear();
    capacity_ = 0;
    waiting_ = false;
}

/// Buffers taken earlier are host addresses: when translations have changed, they are given back and taken again.
void NetReceiver::follow_translations(Queue& queue) noexcept {
    if (std::exchange(generation_, queue.memory().generation()) == queue.memory().generation())
        return;
    give_back(queue);
}

void NetReceiver::give_back(Queue& queue) noexcept {
    for (Buffer& buffer : buffers_)
        queue.undo_pop(buffer.head);
    forget();
}

NetReceiver::Taken NetReceiver::take_buffer(Queue& queue) noexcept {
    const bool popped = queue.pop(chain_);
    work_ += chain_.work;
    if (!popped) {
        reason_ = queue.broken_reason();
        return queue.broken() ? Taken::broken : Taken::none;
    }
    if (pieces_.size() + chain_.writable.size() > max_pieces && !buffers_.empty()) {
        queue.undo_pop(chain_.head);
        return Taken::full;
    }
    const std::uint64_t bytes = Chain::bytes(chain_.writable);
    if (!chain_.readable.empty() || bytes < header_size || chain_.writable.size() >= max_pieces) {
        reason_ = !chain_.readable.empty() ? "a receive buffer is not writable"
                  : bytes < header_size    ? "a receive buffer is smaller than a frame's header"
                                           : "a receive buffer has too many pieces";
        return Taken::broken;
    }
    pieces_.insert(pieces_.end(), chain_.writable.begin(), chain_.writable.end());
    buffers_.push_back({std::move(chain_.head), static_cast<std::uint32_t>(chain_.writable.size()), bytes});
    capacity_ += bytes;
    return Taken::one;
}

NetReceiver::Taken NetReceiver::take_ahead(Queue& queue) noexcept {
    while (buffers_.empty() || (mergeable_ && capacity_ < ahead_)) {
        const Taken taken = take_buffer(queue);
        if (taken == Taken::broken)
            return taken;
        if (taken != Taken::one)
            break;
    }
    return buffers_.empty() ? Taken::none : Taken::one;
}

std::span<std::byte> NetReceiver::overflow() {
    if (!overflow_)
        overflow_ = std::make_unique_for_overwrite<std::byte[]>(overflow_size); // NOLINT
    return {overflow_.get(), overflow_size};
}

/// Returns what the port read. Sets placed_ to what the buffers had room for.
ssize_t NetReceiver::read(NetPort& port, unsigned pair) noexcept {
    const iovec spill{overflow().data(), overflow_size};
    const iovec first = pieces_[1];
    pieces_[0] = {&header_, header_size};
    ssize_t got = 0;
    if (first.iov_len >= header_size) {
        pieces_[1] = {static_cast<std::byte*>(first.iov_base) + header_size, first.iov_len - header_size};
        pieces_.push_back(spill);
        got = port.read(pair, pieces_);
        pieces_.pop_back();
        pieces_[1] = first;
        placed_ = capacity_ - header_size;
    } else { // a header in several pieces is rare, so it may be copied
        const iovec two[]{pieces_[0], spill};
        got = port.read(pair, two);
        placed_ = 0;
    }
    error_ = got < 0 ? static_cast<int>(-got) : ENODEV;
    return got;
}

NetReceiver::Outcome NetReceiver::receive(Queue& queue, NetPort& port, unsigned pair) noexcept {
    follow_translations(queue);
    if (waiting_)
        return deliver(queue);
    if (const Taken taken = take_ahead(queue); taken != Taken::one)
        return taken == Taken::broken ? Outcome::broken : Outcome::no_buffers;
    const ssize_t got = read(port, pair);
    if (got < 0) {
        const bool passing = error_ == EINTR || error_ == ENOMEM || error_ == ENOBUFS || error_ == EFAULT;
        return error_ == EAGAIN ? Outcome::empty : passing ? Outcome::dropped : Outcome::gone;
    }
    if (got == 0)
        return Outcome::gone;
    if (static_cast<std::size_t>(got) < header_size + min_frame)
        return Outcome::dropped;
    frame_ = static_cast<std::size_t>(got) - header_size;
    placed_ = std::min(placed_, frame_);
    if (frame_ - placed_ >= overflow_size || !accept_received(header_, offloads_))
        return Outcome::dropped;
    return deliver(queue);
}

NetReceiver::Outcome NetReceiver::inject(Queue& queue, std::span<const std::byte> frame) noexcept {
    follow_translations(queue);
    if (frame.size() > max_frame)
        return Outcome::dropped;
    std::memcpy(overflow().data(), frame.data(), frame.size());
    header_ = {};
    frame_ = frame.size();
    placed_ = 0;
    return deliver(queue);
}

NetReceiver::Outcome NetReceiver::deliver(Queue& queue) noexcept {
    const std::uint64_t needed = header_size + frame_;
    while (capacity_ < needed && (mergeable_ || buffers_.empty())) {
        const Taken taken = take_buffer(queue);
        if (taken == Taken::broken)
            return Outcome::broken;
        if (taken == Taken::one)
            continue;
        // More buffers may come, unless the driver has offered all of them: then this frame never fits.
        waiting_ = taken == Taken::none && buffers_.size() < queue.size();
        return waiting_ ? Outcome::no_buffers : Outcome::dropped;
    }
    waiting_ = false;
    if (capacity_ < needed)
        return Outcome::dropped;
    if (frame_ > placed_)
        copy_in(header_size + placed_, overflow().subspan(0, frame_ - placed_));
    hand_over(queue, needed);
    return Outcome::delivered;
}

/// 5.1.6.4: the first buffer's header says over how many buffers the frame is spread.
void NetReceiver::hand_over(Queue& queue, std::uint64_t bytes) noexcept {
    std::size_t count = 0;
    std::size_t pieces = 0;
    for (std::uint64_t left = bytes; left != 0; ++count) {
        left -= std::min(left, buffers_[count].bytes);
        pieces += buffers_[count].pieces;
    }
    header_.buffers = static_cast<std::uint16_t>(count);
    copy_in(0, std::as_bytes(std::span{&header_, 1}));
    queue.memory().wrote(std::span{pieces_}.subspan(1, pieces)); // they were translated on an earlier turn
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t part = std::min(bytes, buffers_[i].bytes);
        queue.push(buffers_[i].head, static_cast<std::uint32_t>(part));
        bytes -= part;
        capacity_ -= buffers_[i].bytes;
    }
    buffers_.erase(buffers_.begin(), buffers_.begin() + static_cast<std::ptrdiff_t>(count));
    pieces_.erase(pieces_.begin() + 1, pieces_.begin() + 1 + static_cast<std::ptrdiff_t>(pieces));
}

void NetReceiver::copy_in(std::uint64_t offset, std::span<const std::byte> bytes) noexcept {
    for (std::size_t i = 1; i < pieces_.size() && !bytes.empty(); ++i) {
        const iovec& piece = pieces_[i];
        if (offset >= piece.iov_len) {
            offset -= piece.iov_len;
            continue;
        }
        const auto count = std::min<std::size_t>(piece.iov_len - offset, bytes.size());
        std::memcpy(static_cast<std::byte*>(piece.iov_base) + offset, bytes.data(), count);
        bytes = bytes.subspan(count);
        offset = 0;
    }
}

} // namespace inox::devices::virtio
