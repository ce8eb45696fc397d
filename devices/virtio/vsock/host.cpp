// SPDX-License-Identifier: Apache-2.0
// The host's side of the socket device: programs that connect, and the state of their sockets.
#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>

#include "devices/virtio/vsock/vsock.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox::devices::virtio {
namespace {

constexpr unsigned accepts_at_once = 16;
constexpr std::size_t longest_line = 32; // of a greeting, including its newline
constexpr std::uint32_t first_host_port = 1U << 30;
constexpr std::chrono::seconds descriptor_retry{1};
constexpr std::chrono::seconds dial_time{2}; // as long as Linux's connect(2) waits by default

} // namespace

void Vsock::listen() noexcept {
    if (listening_)
        return;
    auto watch = loop_.watch(listener_.fd(), [weak = weak_from_this()] {
        const auto self = weak.lock();
        bool more = false;
        self->locked([&] { more = self->accept_some(); });
        if (!more)
            self->listening_.reset();
    });
    if (watch)
        listening_ = std::move(*watch);
}

/// False when the loop must stop watching the listener for now; programs wait in its backlog.
bool Vsock::accept_some() noexcept {
    for (unsigned i = 0; i < accepts_at_once; ++i) {
        UniqueFd socket = listener_.accept();
        if (socket) {
            greet(std::move(socket));
            continue;
        }
        if (errno != EMFILE && errno != ENFILE)
            return true;
        listen_later_ = loop_.after(descriptor_retry, [weak = weak_from_this()] {
            if (const auto self = weak.lock())
                self->locked([&] { self->listen(); });
        });
        return false;
    }
    return true;
}

void Vsock::greet(UniqueFd socket) noexcept {
    if (streams_.greetings.size() >= max_greetings)
        streams_.greetings.erase(streams_.greetings.begin());
    if (!make_room()) {
        traffic_.refused.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    const std::uint64_t id = ++next_id_;
    auto watch = watch_greeting(id, socket);
    if (watch)
        streams_.greetings.try_emplace(id, Greeting{std::move(socket), {}, std::move(*watch)});
}

Result<Registration> Vsock::watch_greeting(std::uint64_t id, const UniqueFd& socket) {
    return loop_.watch(socket.get(), [weak = weak_from_this(), id] {
        if (const auto self = weak.lock())
            self->locked([&] { self->on_greeting(id); });
    });
}

void Vsock::on_greeting(std::uint64_t id) noexcept {
    const auto at = streams_.greetings.find(id);
    if (at == streams_.greetings.end())
        return;
    Greeting& greeting = at->second;
    // Takes only the line: what the program sends after it is for the guest.
    std::array<char, longest_line> seen{};
    const auto got = ::recv(greeting.socket.get(), seen.data(), longest_line - greeting.line.size(), MSG_PEEK);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    const std::string_view text{seen.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
    const auto newline = text.find('\n');
    const std::size_t taken = newline == text.npos ? text.size() : newline + 1;
    (void)!::recv(greeting.socket.get(), seen.data(), taken, 0);
    greeting.line += text.substr(0, newline);
    if (newline == text.npos) {
        if (got <= 0 || greeting.line.size() >= longest_line)
            streams_.greetings.erase(at);
        return;
    }
    UniqueFd socket = std::move(greeting.socket);
    const auto port = parse_connect(greeting.line);
    streams_.greetings.erase(at);
    if (port)
        open_from_host(std::move(socket), *port);
}

/// Above the ports that a Linux guest gives out by default, so a number seldom means two things in a log.
std::uint32_t Vsock::free_host_port() noexcept {
    const auto taken = [&](std::uint32_t port) {
        return std::ranges::any_of(streams_.connections, [&](const auto& entry) { return entry.first.host == port; });
    };
    do {
        next_host_port_ =
            next_host_port_ < first_host_port || next_host_port_ >= 0x7fffffff ? first_host_port : next_host_port_ + 1;
    } while (taken(next_host_port_));
    return next_host_port_;
}

void Vsock::open_from_host(UniqueFd socket, std::uint32_t guest_port) noexcept {
    VsockConnection* connection =
        make_room() ? add({guest_port, free_host_port()}, VsockFlow::Origin::host, std::move(socket)) : nullptr;
    if (!connection)
        return;
    traffic_.opened.fetch_add(1, std::memory_order_relaxed);
    start_deadline(*connection);
    enqueue(*connection);
    feed();
}

void Vsock::start_deadline(VsockConnection& connection) noexcept {
    connection.deadline =
        loop_.after(request_timeout_, [weak = weak_from_this(), ports = connection.ports, id = connection.id] {
            if (const auto self = weak.lock())
                self->locked([&] {
                    if (VsockConnection* late = self->find(ports, id))
                        self->on_request_timeout(*late);
                });
        });
}

/// Until the socket is connected, or for as long as a guest's program waits.
bool Vsock::await_dial(VsockConnection& connection, UniqueFd answer) noexcept {
    const auto tell = [weak = weak_from_this(), ports = connection.ports, id = connection.id](bool in_time) {
        if (const auto self = weak.lock())
            self->locked([&] {
                if (VsockConnection* one = self->find(ports, id); one && one->dial)
                    self->on_dialled(*one, in_time && outside::connected(one->dial));
            });
    };
    connection.dial = std::move(answer);
    connection.deadline = loop_.after(dial_time, [tell] { tell(false); });
    auto watch = loop_.watch(connection.dial.get(), [tell] { tell(true); });
    if (watch)
        connection.dialled = std::move(*watch);
    return watch.has_value();
}

void Vsock::on_dialled(VsockConnection& connection, bool connected) noexcept {
    connection.dial.reset();
    connection.dialled.reset();
    connection.deadline.reset();
    begin_stream(connection, connected);
    feed();
}

void Vsock::begin_stream(VsockConnection& connection, bool connected) noexcept {
    if (!connected || !watch_readable(connection))
        return refuse(connection);
    traffic_.opened.fetch_add(1, std::memory_order_relaxed);
    enqueue(connection);
}

void Vsock::refuse(VsockConnection& connection) noexcept {
    traffic_.refused.fetch_add(1, std::memory_order_relaxed);
    answer_reset({connection.ports});
    retire(connection);
}

void Vsock::on_request_timeout(VsockConnection& connection) noexcept {
    answer_reset({connection.ports});
    retire(connection);
    feed();
}

bool Vsock::watch_readable(VsockConnection& connection) noexcept {
    if (connection.readable)
        return true;
    auto watch =
        loop_.watch(connection.socket.get(), [weak = weak_from_this(), ports = connection.ports, id = connection.id] {
            const auto self = weak.lock();
            if (!self)
                return;
            self->locked([&] {
                VsockConnection* ready = self->find(ports, id);
                if (!ready)
                    return;
                ready->wants_read = true;
                self->enqueue_if_due(*ready);
                self->feed();
                // Not read to the end because the guest has no room. Its next packet or buffer continues the reading.
                ready = self->find(ports, id);
                if (ready && ready->wants_read)
                    ready->readable.reset();
            });
        });
    if (watch)
        connection.readable = std::move(*watch);
    return watch.has_value();
}

bool Vsock::watch_writable(VsockConnection& connection) noexcept {
    if (connection.writable)
        return true;
    auto watch = loop_.watch_writable(connection.socket.get(),
                                      [weak = weak_from_this(), ports = connection.ports, id = connection.id] {
                                          const auto self = weak.lock();
                                          if (!self)
                                              return;
                                          self->locked([&] {
                                              if (VsockConnection* ready = self->find(ports, id))
                                                  self->on_writable(*ready);
                                          });
                                      });
    if (watch)
        connection.writable = std::move(*watch);
    return watch.has_value();
}

void Vsock::on_writable(VsockConnection& connection) noexcept {
    const bool reads = connection.flush();
    const auto is_this = [&](const auto& node) { return &node.mapped() == &connection; };
    if (connection.backlog.empty())
        connection.writable.reset();
    if (std::ranges::any_of(streams_.draining, is_this)) {
        if (connection.backlog.empty())
            streams_.draining.remove_if(is_this);
        return;
    }
    if (!reads)
        connection.flow.host_shuts(vsock_shutdown_receive);
    enqueue_if_due(connection);
    feed();
}

/// The program's stream ended (`result` 0) or broke (-1).
void Vsock::host_ended(VsockConnection& connection, int result) noexcept {
    connection.wants_read = false;
    connection.readable.reset();
    if (!connection.socket)
        return;
    pollfd state{connection.socket.get(), 0, 0};
    const bool half = result == 0 && ::poll(&state, 1, 0) == 0; // no hang-up: the program still reads
    if (!half) {
        connection.flow.forwarded(static_cast<std::uint32_t>(connection.backlog.size()));
        connection.backlog.clear();
        connection.writable.reset();
        connection.socket.reset();
    }
    connection.flow.host_shuts(half ? vsock_shutdown_send : vsock_shutdown_send | vsock_shutdown_receive);
    enqueue_if_due(connection);
}

} // namespace inox::devices::virtio
