// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/vsock.hpp"

#include <algorithm>
#include <cstring>
#include <linux/virtio_vsock.h>

#include "vmm/base/descriptors.hpp"
#include "vmm/base/state.hpp"

namespace inox::devices::virtio {
namespace {

constexpr unsigned event_queue = 2;
constexpr unsigned start_later = 63; // of later_: no queue has this number
constexpr std::uint64_t lowest_cid = 3;
constexpr std::uint64_t highest_cid = 0xfffffffe;

// What one connection may buffer for a slow host program. If there are many, each gets less, so the sum stays small.
constexpr std::uint32_t large_buffer = 256 * 1024;
constexpr std::uint32_t small_buffer = 32 * 1024;
constexpr std::size_t large_buffers = 64;

/// Descriptors of one connection: its socket, and one each for the loop's watches for reading and for writing.
constexpr std::size_t descriptors_each = 3;

} // namespace

Result<std::shared_ptr<Vsock>> Vsock::create(const VsockOptions& options, EventLoop& loop) {
    if (options.guest_cid < lowest_cid || options.guest_cid > highest_cid)
        return fail(
            Errc::config_value,
            format("vsock CID %llu is outside 3 to 4294967294", static_cast<unsigned long long>(options.guest_cid)),
            "0 to 2 mean the hypervisor, this machine and the host");
    auto listener = TRY(VsockListener::create(options.uds_path));
    return std::shared_ptr<Vsock>{new Vsock{options, loop, std::move(listener)}};
}

Vsock::Vsock(const VsockOptions& options, EventLoop& loop, VsockListener listener)
    : Device{options.id + " (virtio-vsock)"}, loop_{loop}, listener_{std::move(listener)},
      guest_cid_{options.guest_cid}, request_timeout_{options.request_timeout},
      limit_{std::clamp<std::size_t>(descriptors::spendable() / descriptors_each, 1, max_connections)} {}

void Vsock::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    store_le(data, offset < sizeof guest_cid_ ? guest_cid_ >> (8 * offset) : 0);
}

/// Runs on a vCPU's thread, but sockets belong to the loop.
void Vsock::on_activate() noexcept {
    later_.post(loop_, start_later, weak_from_this(), [](Vsock& vsock) { vsock.locked([&] { vsock.start(); }); });
}

void Vsock::start() noexcept {
    listen();
    for (unsigned i = 0; i < event_queue; ++i)
        again(i); // the driver may have notified before the device was ready
}

void Vsock::again(unsigned queue) noexcept {
    later_.post(loop_, queue, weak_from_this(), [queue](Vsock& vsock) { vsock.kick(queue); });
}

void Vsock::on_kick(unsigned queue) noexcept {
    if (queue == 0)
        feed();
    else if (queue == 1)
        transmit();
    else
        serve_events();
}

/// Event buffers stay where they are but for the one event there is. A driver that gives the buffer back has seen it.
void Vsock::serve_events() noexcept {
    Queue* ring = queue(event_queue);
    if (!ring || stopped() || (!untold_ && !waits_for_driver_))
        return;
    const auto hold = memory().hold();
    if (!ring->refresh())
        return;
    waits_for_driver_ = untold_ && tell_restored(*ring);
    if (!waits_for_driver_)
        again(0);
}

/// False when there is no buffer yet. Then traffic goes on: packets of connections that are gone are answered anyway.
bool Vsock::tell_restored(Queue& ring) noexcept {
    ring.ask_notifications(true);
    if (!ring.pop(sent_))
        return false;
    std::array<std::byte, sizeof(virtio_vsock_event)> event{};
    store_le(std::span{event}, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    ring.push(sent_.head, static_cast<std::uint32_t>(sent_.copy_to(0, event)));
    sent_.clear();
    untold_ = false;
    // Before the driver can look: it does so once it is interrupted.
    const bool heard = !ring.ask_for_more();
    signal(event_queue);
    return !heard;
}

void Vsock::on_reset() noexcept { forget_all(); }

/// May run on a vCPU's thread. Watches must be destroyed on the loop; those that still fire find no connection.
void Vsock::forget_all() noexcept {
    ready_.clear();
    resets_.clear();
    blocked_ = false;
    untold_ = waits_for_driver_ = false;
    if (!streams_.greetings.empty() || !streams_.connections.empty() || !streams_.draining.empty())
        loop_.post([gone = std::make_unique<Streams>(std::exchange(streams_, {}))] {});
    count_open();
}

void Vsock::on_state(State& state) {
    state.version(1);
    state.number("next_host_port", next_host_port_);
    if (state.restores())
        untold_ = waits_for_driver_ = active();
}

/// Sockets that are ready would wake the loop again and again for nothing.
bool Vsock::on_drain() noexcept {
    const auto still = [](VsockConnection& connection) {
        connection.readable.reset();
        connection.writable.reset();
        connection.dialled.reset();
    };
    for (auto& [ports, connection] : streams_.connections)
        still(connection);
    for (auto& node : streams_.draining)
        still(node.mapped());
    for (auto& [id, greeting] : streams_.greetings)
        greeting.readable.reset();
    listening_.reset();
    return true;
}

/// Every socket is looked at again. What has to be fed is fed when the queues are.
void Vsock::on_resume() noexcept {
    listen();
    for (auto at = streams_.greetings.begin(); at != streams_.greetings.end();) {
        auto watch = watch_greeting(at->first, at->second.socket);
        if (watch)
            at->second.readable = std::move(*watch);
        at = watch ? std::next(at) : streams_.greetings.erase(at);
    }
    streams_.draining.remove_if([this](auto& node) { return !watch_writable(node.mapped()); });
    for (auto& [ports, connection] : streams_.connections) {
        if (connection.dial) { // where that cannot be watched, its time ends it
            static_cast<void>(await_dial(connection, std::move(connection.dial)));
            continue;
        }
        if (connection.deadline)
            start_deadline(connection);
        if (!connection.socket)
            continue;
        connection.wants_read = connection.flow.open() && connection.flow.guest_reads();
        if (!connection.backlog.empty() && !watch_writable(connection))
            host_ended(connection, -1);
        enqueue_if_due(connection);
    }
}

/// Whether one more connection may exist; connections that only drain are closed for it.
bool Vsock::make_room() noexcept {
    const auto total = [&] {
        return streams_.connections.size() + streams_.draining.size() + streams_.greetings.size();
    };
    while (total() >= limit_ && !streams_.draining.empty())
        streams_.draining.pop_front();
    if (total() < limit_)
        return true;
    note_full();
    return false;
}

/// Counts a refusal, by the limit or because there was no descriptor left.
void Vsock::note_full() noexcept {
    traffic_.refused_limit.fetch_add(1, std::memory_order_relaxed);
    if (told_full_.allow())
        log::write(log::Level::warning, "%s: a connection is refused: there are %zu, and there may be %zu%s",
                   name().c_str(), streams_.connections.size(), limit_,
                   limit_ < max_connections ? " with this limit on descriptors (ulimit -n)" : "");
}

VsockConnection* Vsock::add(VsockPorts ports, VsockFlow::Origin origin, UniqueFd socket) noexcept {
    const std::uint32_t buffer = streams_.connections.size() < large_buffers ? large_buffer : small_buffer;
    const auto [at, added] =
        streams_.connections.try_emplace(ports, ++next_id_, ports, origin, buffer, std::move(socket));
    count_open();
    return added ? &at->second : nullptr;
}

VsockConnection* Vsock::find(VsockPorts ports, std::uint64_t id) noexcept {
    if (const auto at = streams_.connections.find(ports); at != streams_.connections.end() && at->second.id == id)
        return &at->second;
    for (auto& node : streams_.draining)
        if (node.mapped().id == id)
            return &node.mapped();
    return nullptr;
}

/// The guest has finished with it. What the host program has not read yet is still delivered.
void Vsock::retire(VsockConnection& connection) noexcept {
    dequeue(connection);
    connection.readable.reset();
    connection.deadline.reset();
    connection.dialled.reset();
    const auto at = streams_.connections.find(connection.ports);
    if (connection.socket && !connection.backlog.empty()) {
        connection.guest_sent_all = true;
        streams_.draining.push_back(streams_.connections.extract(at));
    } else {
        streams_.connections.erase(at);
    }
    count_open();
}

void Vsock::count_open() noexcept { traffic_.open.store(streams_.connections.size(), std::memory_order_relaxed); }

} // namespace inox::devices::virtio
