// SPDX-License-Identifier: Apache-2.0
// Frames between the port and the rings.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "devices/virtio/net/net.hpp"

namespace inox::devices::virtio {
namespace {

using Outcome = NetReceiver::Outcome;

constexpr unsigned batch = 128; // frames before the loop does other work
constexpr unsigned early = 4;   // frames after which the driver is notified, to work at the same time

/// The work for a frame that is copied by a system call.
std::uint32_t work_of(std::size_t bytes) { return Turn::system_call + static_cast<std::uint32_t>(bytes / 256); }

void count(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed); // one writer: the loop
}

} // namespace

void Net::receive(unsigned index) noexcept {
    Pair& pair = pairs_[index];
    Queue* ring = queue(2 * index);
    Next next = Next::wait;
    if (ring && !stopped() && started_) {
        const auto hold = memory().hold();
        if (ring->refresh())
            next = receive_some(pair, *ring, index);
        if (ring->broken())
            stop_broken(ring->broken_reason());
        else
            signal(2 * index);
    }
    if (next == Next::watch)
        watch(index);
    else
        pair.readable.reset();
}

Net::Next Net::receive_some(Pair& pair, Queue& queue, unsigned index) noexcept {
    Turn turn;
    for (unsigned i = 0; i < batch && !turn.over(); ++i) {
        switch (next_frame(pair, queue, index)) {
        case Outcome::delivered:
            count(traffic_.received);
            count(traffic_.received_bytes, pair.receiver.frame_bytes());
            uncharged_ = pair.receiver.frame_bytes();
            if (i % early == early - 1)
                signal(2 * index);
            break;
        case Outcome::dropped:
            count(traffic_.received_dropped);
            break;
        case Outcome::empty:
            queue.ask_notifications(false);
            return port_->fd(index) < 0 || pair.limited ? Next::wait : Next::watch;
        case Outcome::no_buffers:
            queue.ask_notifications(true);
            if (queue.has_work())
                break;
            return Next::wait;
        case Outcome::gone:
            lose_port(pair.receiver.error());
            return Next::wait;
        case Outcome::broken:
            stop_broken(pair.receiver.reason());
            return Next::wait;
        }
        turn.spend(work_of(pair.receiver.frame_bytes()) + pair.receiver.take_work());
    }
    if (port_->fd(index) >= 0 && !port_->has_more(index))
        return Next::watch; // a frame that is there already triggers the watch at once
    again(2 * index);
    return Next::wait;
}

NetReceiver::Outcome Net::next_frame(Pair& pair, Queue& queue, unsigned index) noexcept {
    if (filter_ && index == 0 && !pair.receiver.has_waiting()) {
        if (const std::size_t bytes = filter_->next(frame_); bytes != 0)
            return pair.receiver.inject(queue, std::span{frame_}.first(bytes));
    }
    if (!pair.receiver.has_waiting() && (port_->fd(index) < 0 || receive_limited(index)))
        return Outcome::empty;
    return pair.receiver.receive(queue, *port_, index);
}

/// A frame's length is known only after reading, so each frame is paid for before the next one is read.
bool Net::receive_limited(unsigned index) noexcept {
    if (receive_limiter_.unlimited() || !uncharged_)
        return false;
    const auto wait = receive_limiter_.spend(*uncharged_, RateLimiter::Time::clock::now());
    if (wait.count() == 0) {
        uncharged_.reset();
        return false;
    }
    pairs_[index].limited = loop_.after(wait, [this, index] {
        pairs_[index].limited.reset();
        kick(2 * index);
    });
    return true;
}

void Net::watch(unsigned index) noexcept {
    Pair& pair = pairs_[index];
    if (pair.readable)
        return;
    auto watch = loop_.watch(port_->fd(index), [this, index] {
        bool active = false;
        locked([&] {
            active = true;
            receive(index);
        });
        if (!active)
            pairs_[index].readable.reset();
    });
    if (watch)
        pair.readable = std::move(*watch);
    else
        lose_port(watch.error().sys_errno);
}

void Net::transmit(unsigned index) noexcept {
    Queue* ring = queue(2 * index + 1);
    if (!ring || stopped())
        return;
    const auto hold = memory().hold();
    if (!ring->refresh() || !flush(index))
        return;
    const auto served = serve(*ring, chain_, batch, [&](Chain& chain) { return send(index, chain); });
    signal(2 * index + 1);
    if (served == Served::more)
        again(2 * index + 1);
    if (std::exchange(filter_took_, false))
        again(0);
    (void)flush(index);
}

/// False when a frame that is on its way has to go on first.
bool Net::flush(unsigned index) noexcept {
    const int error = port_->fd(index) < 0 ? 0 : port_->flush(index);
    if (error == EAGAIN)
        return !watch_writable(index);
    if (error != 0)
        lose_port(error);
    return true;
}

bool Net::watch_writable(unsigned index) noexcept {
    auto watch = loop_.watch_writable(port_->fd(index), [this, index] {
        pairs_[index].writable.reset();
        // A frame that is on its way goes on whatever the driver does: the other side may wait for the rest of it.
        if (port_->fd(index) < 0 || port_->flush(index) != EAGAIN || !watch_writable(index))
            kick(2 * index + 1);
    });
    if (watch)
        pairs_[index].writable = std::move(*watch);
    return watch.has_value();
}

/// False when the frame has to wait.
bool Net::send(unsigned index, Chain& chain) noexcept {
    const std::size_t head = chain.copy_from(0, std::as_writable_bytes(std::span{&header_, 1}));
    const std::uint64_t bytes = Chain::bytes(chain.readable) - head;
    chain.work += work_of(std::min<std::uint64_t>(bytes, max_frame));
    const char* refused = !chain.writable.empty() ? "a frame to send is writable"
                          : head < sizeof header_ ? "a frame is shorter than its header"
                                                  : accept_sent(header_, bytes, negotiated_features());
    if (refused) {
        note_bad_request(refused);
        count(traffic_.sent_dropped);
    } else {
        // The host gets the header that was checked, not what the guest may have changed it to.
        (void)drop_front(chain.readable, sizeof header_);
        pieces_.assign(1, {&header_, sizeof header_});
        pieces_.insert(pieces_.end(), chain.readable.begin(), chain.readable.end());
        if (!offer_to_filter(bytes) && !write_frame(index, bytes))
            return false;
    }
    return true;
}

bool Net::offer_to_filter(std::size_t bytes) noexcept {
    if (!filter_)
        return false;
    const auto gather = [&](std::size_t limit) {
        std::size_t done = 0;
        for (std::size_t i = 1; i < pieces_.size() && done < limit; ++i) {
            const std::size_t part = std::min(pieces_[i].iov_len, limit - done);
            std::memcpy(frame_.data() + done, pieces_[i].iov_base, part);
            done += part;
        }
        return std::span<const std::byte>{frame_}.first(done);
    };
    if (!filter_->wants(gather(std::min(bytes, NetFilter::head_size))))
        return false;
    filter_->take(gather(bytes));
    return filter_took_ = true;
}

bool Net::write_frame(unsigned index, std::size_t bytes) noexcept {
    if (port_->fd(index) < 0) {
        count(traffic_.sent_dropped);
        return true;
    }
    Pair& pair = pairs_[index];
    if (!pair.paid && send_limited(index, bytes))
        return false;
    pair.paid = false;
    const ssize_t sent = port_->write(index, pieces_);
    if (sent >= 0) {
        count(traffic_.sent);
        count(traffic_.sent_bytes, bytes);
        return true;
    }
    const auto error = static_cast<int>(-sent);
    if ((error == EAGAIN || error == EINTR) && watch_writable(index)) {
        pair.paid = true;
        return false;
    }
    count(traffic_.sent_dropped);
    if (error == EBADFD || error == ENODEV || error == ENXIO || error == EPIPE || error == ECONNRESET)
        lose_port(error);
    else if (error == EINVAL)
        note_bad_request("the host's network refuses a frame");
    else if (error == EACCES)
        note_bad_request("a frame for the host's loopback");
    return true;
}

bool Net::send_limited(unsigned index, std::size_t bytes) noexcept {
    if (send_limiter_.unlimited())
        return false;
    const auto wait = send_limiter_.spend(bytes, RateLimiter::Time::clock::now());
    if (wait.count() == 0)
        return false;
    pairs_[index].writable = loop_.after(wait, [this, index] {
        pairs_[index].writable.reset();
        kick(2 * index + 1);
    });
    return true;
}

} // namespace inox::devices::virtio
