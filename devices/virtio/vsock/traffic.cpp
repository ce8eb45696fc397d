// SPDX-License-Identifier: Apache-2.0
// Packets between the rings and the connections.
#include <algorithm>
#include <cerrno>
#include <climits>
#include <sys/socket.h>

#include "devices/virtio/vsock/vsock.hpp"

namespace inox::devices::virtio {
namespace {

constexpr unsigned packets_at_once = 4; // from the guest, before it learns of new credit: it keeps sending meanwhile
constexpr unsigned rounds_at_once = 16; // of those, before the loop does other work
constexpr unsigned turns_at_once = 32;  // towards the guest
constexpr std::size_t buffers_at_once = 32;
constexpr std::uint32_t bytes_at_once = 128 * 1024; // of one connection, before others get their turn
constexpr std::size_t max_resets = 256;
constexpr std::size_t header_size = sizeof(VsockHeader);

std::uint32_t work_of(std::uint32_t bytes) { return Turn::system_call + bytes / 256; }

VsockPorts ports_of(const VsockHeader& header) { return {header.source_port, header.destination_port}; }

} // namespace

// From the guest.

void Vsock::transmit() noexcept {
    Queue* ring = queue(1);
    if (!ring || stopped())
        return;
    turn_ = Turn{};
    auto served = Served::more;
    for (unsigned round = 0; served == Served::more && round < rounds_at_once && !turn_.over() && !stopped(); ++round) {
        {
            const auto hold = memory().hold();
            if (!ring->refresh())
                return;
            served = serve(*ring, sent_, turn_, packets_at_once, [&](Chain& chain) { return on_packet(chain); });
            signal(1);
        }
        blocked_ = served == Served::blocked;
        feed_on();
    }
    if (served == Served::more)
        again(1);
}

/// False when the packet has to wait: a guest that takes no answers must not make them pile up here.
bool Vsock::on_packet(Chain& chain) noexcept {
    if (resets_.size() >= max_resets)
        return false;
    VsockHeader header;
    chain.work += Turn::system_call;
    if (chain.copy_from(0, std::as_writable_bytes(std::span{&header, 1})) != header_size) {
        note_bad_request("a packet is shorter than its header");
        return true;
    }
    switch (judge(header, guest_cid_, Chain::bytes(chain.readable) - header_size)) {
    case VsockVerdict::accept:
        dispatch(header, chain);
        break;
    case VsockVerdict::reset:
        if (header.destination_cid == vsock_host_cid)
            note_bad_request("a packet of an unknown kind or length");
        answer_reset({ports_of(header), header.destination_cid, header.type});
        break;
    case VsockVerdict::drop:
        note_bad_request("a packet that is not this guest's");
        break;
    }
    return true;
}

void Vsock::dispatch(const VsockHeader& header, Chain& chain) noexcept {
    const VsockPorts ports = ports_of(header);
    const auto at = streams_.connections.find(ports);
    const auto operation = static_cast<VsockOp>(std::uint16_t{header.operation});
    if (at != streams_.connections.end() && at->second.dial) // the guest has had no answer, so it gives up
        return operation == VsockOp::reset ? retire(at->second) : refuse(at->second);
    if (at != streams_.connections.end())
        act(at->second, at->second.flow.on_packet(header), header, chain);
    else if (operation == VsockOp::request)
        open_from_guest(ports, header, chain);
    else if (operation != VsockOp::reset)
        answer_reset({ports});
}

void Vsock::act(VsockConnection& connection, VsockFlow::Event event, const VsockHeader& header, Chain& chain) noexcept {
    using Event = VsockFlow::Event;
    switch (event) {
    case Event::opened: {
        connection.deadline.reset();
        const std::string answer = "OK " + std::to_string(connection.ports.host) + "\n";
        if (::send(connection.socket.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
                static_cast<ssize_t>(answer.size()) ||
            !watch_readable(connection))
            host_ended(connection, -1);
        break;
    }
    case Event::data:
        take_data(connection, header.length, chain);
        break;
    case Event::guest_sent_all:
        connection.guest_sent_all = true;
        (void)connection.flush();
        break;
    case Event::guest_reads_none:
        connection.readable.reset();
        connection.wants_read = false;
        if (connection.socket)
            ::shutdown(connection.socket.get(), SHUT_RD);
        break;
    case Event::broken:
        note_bad_request("a packet breaks the rules of its connection");
        [[fallthrough]];
    case Event::guest_closed:
        answer_reset({connection.ports});
        [[fallthrough]];
    case Event::ended:
        return retire(connection);
    case Event::none:
        break;
    }
    enqueue_if_due(connection);
}

void Vsock::open_from_guest(VsockPorts ports, const VsockHeader& header, Chain& chain) noexcept {
    chain.work += 8 * Turn::system_call; // a socket, its connection, and the loop's watches
    const bool room = make_room();
    UniqueFd answer;
    UniqueFd socket =
        room ? connect_unix_later(listener_.path() + "_" + std::to_string(ports.host), answer) : UniqueFd{};
    if (room && !socket && (errno == EMFILE || errno == ENFILE))
        note_full();
    VsockConnection* connection = socket ? add(ports, VsockFlow::Origin::guest, std::move(socket)) : nullptr;
    if (!connection) {
        traffic_.refused.fetch_add(1, std::memory_order_relaxed);
        return answer_reset({ports});
    }
    connection->flow.on_request(header);
    if (answer && !await_dial(*connection, std::move(answer)))
        return refuse(*connection);
    if (!connection->dial)
        begin_stream(*connection, true);
}

void Vsock::take_data(VsockConnection& connection, std::uint32_t bytes, Chain& chain) noexcept {
    chain.work += work_of(bytes);
    (void)drop_front(chain.readable, header_size);
    keep_front(chain.readable, bytes);
    traffic_.to_host_bytes.fetch_add(bytes, std::memory_order_relaxed);
    if (!connection.write(chain.readable, bytes))
        connection.flow.host_shuts(vsock_shutdown_receive);
    else if (!connection.backlog.empty() && !watch_writable(connection))
        host_ended(connection, -1);
}

void Vsock::answer_reset(const Reset& reset) noexcept { resets_.push_back(reset); }

// To the guest.

void Vsock::feed() noexcept {
    turn_ = Turn{};
    feed_on();
}

/// Goes on within the turn that is under way.
void Vsock::feed_on() noexcept {
    Queue* ring = queue(0);
    if (!ring || stopped() || waits_for_driver_)
        return;
    const auto hold = memory().hold();
    if (!ring->refresh())
        return stop_broken(ring->broken_reason());
    ring->ask_notifications(false);
    unsigned turns = turns_at_once;
    for (; turns != 0 && !turn_.over(); --turns) {
        const Fed fed = feed_next(*ring);
        if (fed == Fed::broken)
            return;
        if (fed == Fed::idle)
            break;
        if (fed == Fed::more)
            continue;
        ring->ask_notifications(true);
        if (!ring->has_work())
            break;
    }
    signal(0);
    if (turns == 0 || turn_.over())
        again(0);
    if (blocked_ && resets_.size() < max_resets / 2)
        again(1);
}

/// Feeds one answer, or one connection for one turn. Idle when nothing waits.
Vsock::Fed Vsock::feed_next(Queue& queue) noexcept {
    if (!resets_.empty()) {
        if (const Fed taken = take_buffer(queue, sent_); taken != Fed::more)
            return taken;
        const Reset& reset = resets_.front();
        VsockHeader header = header_for(reset.ports, VsockOp::reset, 0);
        header.source_cid = reset.from;
        header.type = reset.type;
        resets_.pop_front();
        sent_.copy_to(0, std::as_bytes(std::span{&header, 1}));
        queue.push(sent_.head, header_size);
        return Fed::more;
    }
    if (ready_.empty())
        return Fed::idle;
    VsockConnection& connection = *ready_.front();
    const Fed fed = connection.flow.has_control() ? feed_control(queue, connection) : feed_data(queue, connection);
    if (fed == Fed::idle) {
        dequeue(connection);
        return Fed::more;
    }
    if (fed == Fed::more)
        ready_.splice(ready_.end(), ready_, ready_.begin());
    return fed;
}

Vsock::Fed Vsock::feed_control(Queue& queue, VsockConnection& connection) noexcept {
    VsockHeader extra;
    if (const Fed taken = take_buffer(queue, sent_); taken != Fed::more)
        return taken;
    const VsockOp operation = connection.flow.take_control(extra);
    if (operation == VsockOp::invalid) {
        queue.undo_pop(sent_.head);
        return Fed::idle;
    }
    VsockHeader header = header_for(connection.ports, operation, 0);
    header.flags = extra.flags;
    connection.flow.stamp(header);
    sent_.copy_to(0, std::as_bytes(std::span{&header, 1}));
    queue.push(sent_.head, header_size);
    return Fed::more;
}

Vsock::Fed Vsock::feed_data(Queue& queue, VsockConnection& connection) noexcept {
    if (!connection.wants_read || !connection.socket)
        return Fed::idle;
    const std::uint32_t room = std::min(connection.flow.room(), bytes_at_once);
    if (room == 0) { // the guest's next packet says when there is room
        connection.flow.ask_credit();
        return connection.flow.has_control() ? Fed::more : Fed::idle;
    }
    const std::size_t buffers = take_buffers(queue, room);
    if (buffers == 0)
        return stopped() ? Fed::broken : Fed::no_buffers;
    msghdr message{};
    message.msg_iov = pieces_.data();
    message.msg_iovlen = pieces_.size();
    const ssize_t got = ::recvmsg(connection.socket.get(), &message, MSG_DONTWAIT);
    const int error = errno;
    turn_.spend(work_of(got > 0 ? static_cast<std::uint32_t>(got) : 0));
    fill(queue, connection, buffers, got > 0 ? static_cast<std::size_t>(got) : 0);
    if (got < 0 && error == EINTR)
        return Fed::more;
    const bool drained = got > 0 ? static_cast<std::uint64_t>(got) < Chain::bytes(pieces_) : error == EAGAIN;
    if (got > 0 && !drained)
        return Fed::more;
    connection.wants_read = false;
    if (got == 0 || !drained || !watch_readable(connection))
        host_ended(connection, got == 0 ? 0 : -1);
    return Fed::more;
}

/// Takes buffers for up to `room` bytes of payload into buffers_, the payload's parts into pieces_. Returns how many.
std::size_t Vsock::take_buffers(Queue& queue, std::uint32_t room) noexcept {
    pieces_.clear();
    buffers_.resize(buffers_at_once);
    std::size_t count = 0;
    std::uint64_t capacity = 0;
    while (count < buffers_at_once && capacity < room && (count == 0 || !turn_.over())) {
        Chain& chain = buffers_[count];
        if (take_buffer(queue, chain) != Fed::more)
            break;
        if (pieces_.size() + chain.writable.size() > IOV_MAX) {
            queue.undo_pop(chain.head);
            break;
        }
        const std::size_t first = pieces_.size();
        std::uint64_t skip = header_size;
        for (const iovec& piece : chain.writable) {
            const std::uint64_t part = std::min<std::uint64_t>(skip, piece.iov_len);
            skip -= part;
            if (piece.iov_len != part)
                pieces_.push_back({static_cast<std::byte*>(piece.iov_base) + part, piece.iov_len - part});
        }
        capacity += Chain::bytes(std::span{pieces_}.subspan(first));
        ++count;
    }
    keep_front(pieces_, room);
    return count;
}

/// Hands over as many buffers as `bytes` of payload fill, and gives back the others.
void Vsock::fill(Queue& queue, VsockConnection& connection, std::size_t buffers, std::size_t bytes) noexcept {
    connection.flow.sent(static_cast<std::uint32_t>(bytes));
    traffic_.to_guest_bytes.fetch_add(bytes, std::memory_order_relaxed);
    std::size_t used = 0;
    for (; bytes != 0; ++used) {
        Chain& chain = buffers_[used];
        const auto part = std::min<std::size_t>(bytes, Chain::bytes(chain.writable) - header_size);
        VsockHeader header = header_for(connection.ports, VsockOp::data, static_cast<std::uint32_t>(part));
        connection.flow.stamp(header);
        chain.copy_to(0, std::as_bytes(std::span{&header, 1}));
        queue.push(chain.head, static_cast<std::uint32_t>(header_size + part));
        bytes -= part;
    }
    for (Chain& chain : std::span{buffers_}.first(buffers)) {
        queue.undo_pop(chain.head); // does nothing for one that was filled
        chain.clear();
    }
}

Vsock::Fed Vsock::take_buffer(Queue& queue, Chain& chain) noexcept {
    if (queue.pop(chain)) {
        turn_.spend(chain);
        if (chain.readable.empty() && Chain::bytes(chain.writable) > header_size)
            return Fed::more;
        stop_broken("a receive buffer is too small or not writable");
    } else if (queue.broken()) {
        stop_broken(queue.broken_reason());
    }
    return stopped() ? Fed::broken : Fed::no_buffers;
}

VsockHeader Vsock::header_for(VsockPorts ports, VsockOp operation, std::uint32_t length) const noexcept {
    VsockHeader header;
    header.source_cid = vsock_host_cid;
    header.destination_cid = guest_cid_;
    header.source_port = ports.host;
    header.destination_port = ports.guest;
    header.length = length;
    header.type = vsock_stream;
    header.operation = static_cast<std::uint16_t>(operation);
    return header;
}

void Vsock::enqueue(VsockConnection& connection) noexcept {
    if (!std::exchange(connection.queued, true))
        ready_.splice(ready_.end(), connection.node);
}

void Vsock::enqueue_if_due(VsockConnection& connection) noexcept {
    if (connection.wants_read && connection.flow.open() && connection.flow.room() == 0)
        connection.flow.ask_credit();
    if (connection.flow.has_control() || (connection.wants_read && connection.flow.room() != 0))
        enqueue(connection);
}

void Vsock::dequeue(VsockConnection& connection) noexcept {
    if (std::exchange(connection.queued, false))
        connection.node.splice(connection.node.end(), ready_, std::ranges::find(ready_, &connection));
}

} // namespace inox::devices::virtio
