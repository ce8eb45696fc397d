// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vhost_user.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/virtio/device.hpp"
#include "vmm/base/open_hint.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/base/unix_socket.hpp"

namespace inox::devices::virtio {

enum class VhostUser::Request : std::uint32_t {
    get_features = 1,
    set_features = 2,
    set_owner = 3,
    set_mem_table = 5,
    set_vring_num = 8,
    set_vring_addr = 9,
    set_vring_base = 10,
    get_vring_base = 11,
    set_vring_kick = 12,
    set_vring_call = 13,
    get_protocol_features = 15,
    set_protocol_features = 16,
    set_vring_enable = 18,
};

namespace {

constexpr std::uint64_t has_protocol_features = feature::bit(30);
constexpr std::uint64_t protocol_reply_ack = 1U << 3;
constexpr std::uint32_t version = 1;
constexpr std::uint32_t flag_reply = 4;
constexpr std::uint32_t flag_need_reply = 8;

struct Header {
    std::uint32_t request;
    std::uint32_t flags;
    std::uint32_t size;
};
static_assert(sizeof(Header) == 12);

struct MemoryRegion {
    std::uint64_t guest_address;
    std::uint64_t size;
    std::uint64_t user_address;
    std::uint64_t file_offset;
};

struct RingNumber {
    std::uint32_t index;
    std::uint32_t number;
};

struct RingAddress {
    std::uint32_t index;
    std::uint32_t flags;
    std::uint64_t descriptors;
    std::uint64_t used;
    std::uint64_t available;
    std::uint64_t log;
};

template <class T> std::span<const std::byte> bytes_of(const T& value) { return std::as_bytes(std::span{&value, 1}); }

// What the protocol calls a user address is only a name for a place in the shared memory table.
std::uint64_t user_address(const GuestMemory& memory, Iova address, std::uint64_t size) {
    const auto host = memory.host(Gpa{address.raw()}, size);
    return host ? reinterpret_cast<std::uint64_t>(host->data()) : 0; // NOLINT
}

Result<void> check_length(const std::string& path) {
    if (unix_address(path))
        return {};
    return fail(Errc::config_value,
                format("socket path of %zu bytes is longer than %zu", path.size(), sizeof(sockaddr_un::sun_path) - 1),
                "use a shorter path");
}

using Clock = std::chrono::steady_clock;

int milliseconds_until(Clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    return left > 0 ? static_cast<int>(left) : 0;
}

std::unexpected<Error> no_daemon(const std::string& path) {
    return fail_errno(Errc::not_found, "no vhost-user daemon answers at '" + path + "'",
                      open_hint(errno, "start one first, such as: virtiofsd --socket-path=" + path +
                                           " -o source=/the/folder (/usr/lib/qemu/virtiofsd on Debian 12)"));
}

} // namespace

std::unexpected<Error> VhostUser::broken(std::string_view what, int error) const {
    return std::unexpected{Error{Errc::host_error,
                                 "vhost-user daemon at '" + path_ + "': " + std::string{what},
                                 "see the daemon's own messages and start it again; the guest uses the new one "
                                 "when its driver starts the device again",
                                 {},
                                 error}};
}

Error VhostUser::unasked() const {
    std::byte byte{};
    const auto got = ::recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return broken(got > 0 ? "it sent an unexpected message" : "it closed the connection").error();
}

Result<VhostUser> VhostUser::connect(const std::string& path, int cancel) {
    constexpr int full_backlog_pause_ms = 10;
    TRY_VOID(check_length(path));
    VhostUser client{path, UniqueFd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)}, cancel};
    client.begin();
    while (!outside::connect(client.fd(), path)) {
        if (errno != EAGAIN) // anything other than a full backlog
            return no_daemon(path);
        pollfd cancelled{cancel, POLLIN, 0};
        if (Clock::now() >= client.deadline_ || ::poll(&cancelled, 1, full_backlog_pause_ms) > 0)
            return client.broken("it does not accept connections");
    }
    TRY_VOID(client.negotiate());
    return client;
}

Result<void> VhostUser::check(const std::string& path) {
    TRY_VOID(check_length(path));
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || ::access(path.c_str(), W_OK) != 0)
        return no_daemon(path);
    errno = ECONNREFUSED;
    return S_ISSOCK(status.st_mode) ? Result<void>{} : no_daemon(path);
}

Result<void> VhostUser::negotiate() {
    features_ = TRY(ask(Request::get_features));
    TRY_VOID(send(Request::set_owner, {}, {}, false));
    if ((features_ & has_protocol_features) == 0)
        return fail(Errc::unsupported, "the vhost-user daemon at '" + path_ + "' has no protocol features",
                    "use a newer daemon, such as virtiofsd");
    const std::uint64_t offered = TRY(ask(Request::get_protocol_features));
    const std::uint64_t wanted = offered & protocol_reply_ack;
    TRY_VOID(send(Request::set_protocol_features, bytes_of(wanted), {}, false));
    acknowledges_ = wanted != 0;
    return {};
}

Result<void> VhostUser::set_features(std::uint64_t features) {
    const std::uint64_t all = features | has_protocol_features;
    return send(Request::set_features, bytes_of(all));
}

Result<void> VhostUser::share_memory(const GuestMemory& memory) {
    std::vector<std::byte> body(8);
    std::vector<int> fds;
    const auto count = static_cast<std::uint32_t>(memory.regions().size());
    std::memcpy(body.data(), &count, sizeof count);
    for (const RamRegion& region : memory.regions()) {
        const MemoryRegion entry{region.range.start().raw(), region.range.size(),
                                 reinterpret_cast<std::uint64_t>(region.host.data()), // NOLINT
                                 region.file_offset};
        const auto raw = bytes_of(entry);
        body.insert(body.end(), raw.begin(), raw.end());
        fds.push_back(memory.fd());
    }
    return send(Request::set_mem_table, body, fds);
}

Result<void> VhostUser::start_ring(const Ring& ring, const GuestMemory& memory) {
    const std::uint64_t size = ring.layout.size;
    const RingAddress address{ring.index,
                              0,
                              user_address(memory, ring.layout.descriptors, size * 16),
                              user_address(memory, ring.layout.used, 6 + size * 8),
                              user_address(memory, ring.layout.available, 6 + size * 2),
                              0};
    if (address.descriptors == 0 || address.used == 0 || address.available == 0)
        return fail(Errc::config_value, "the guest's ring lies outside its memory");
    TRY_VOID(send(Request::set_vring_num, bytes_of(RingNumber{ring.index, ring.layout.size})));
    TRY_VOID(send(Request::set_vring_base, bytes_of(RingNumber{ring.index, 0})));
    TRY_VOID(send(Request::set_vring_addr, bytes_of(address)));
    const std::uint64_t index = ring.index;
    const std::array kick{ring.kick};
    const std::array call{ring.call};
    TRY_VOID(send(Request::set_vring_call, bytes_of(index), call));
    TRY_VOID(send(Request::set_vring_kick, bytes_of(index), kick));
    return send(Request::set_vring_enable, bytes_of(RingNumber{ring.index, 1}));
}

Result<void> VhostUser::stop_ring(unsigned index) {
    TRY_VOID(send(Request::set_vring_enable, bytes_of(RingNumber{index, 0})));
    TRY_VOID(ask(Request::get_vring_base, bytes_of(RingNumber{index, 0})));
    return {};
}

Result<void> VhostUser::send(Request request, std::span<const std::byte> body, std::span<const int> fds,
                             bool acknowledge) {
    const bool ask_reply = acknowledge && acknowledges_;
    const Header header{static_cast<std::uint32_t>(request), version | (ask_reply ? flag_need_reply : 0),
                        static_cast<std::uint32_t>(body.size())};
    const auto head = bytes_of(header);
    std::vector<std::byte> message{head.begin(), head.end()};
    message.insert(message.end(), body.begin(), body.end());
    TRY_VOID(send_all(message, fds));
    if (ask_reply && TRY(receive(request)) != 0)
        return broken("it refused a message");
    return {};
}

/// The descriptors are sent with the first byte.
Result<void> VhostUser::send_all(std::span<const std::byte> message, std::span<const int> fds) {
    while (!message.empty()) {
        TRY_VOID(wait(POLLOUT));
        const iovec piece{const_cast<std::byte*>(message.data()), message.size()}; // NOLINT
        const auto sent = send_passing(socket_.get(), std::span{&piece, 1}, fds, 0);
        if (sent < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (sent <= 0)
            return broken("it does not accept messages", errno);
        message = message.subspan(static_cast<std::size_t>(sent));
        fds = {};
    }
    return {};
}

Result<std::uint64_t> VhostUser::ask(Request request, std::span<const std::byte> body) {
    TRY_VOID(send(request, body, {}, false));
    return receive(request);
}

/// Every answer to our requests is a number of 64 bits, or a ring's index and a number.
Result<std::uint64_t> VhostUser::receive(Request request) {
    Header header{};
    TRY_VOID(take(std::as_writable_bytes(std::span{&header, 1})));
    std::uint64_t answer = 0;
    if (header.request != static_cast<std::uint32_t>(request) || (header.flags & flag_reply) == 0 ||
        header.size != sizeof answer)
        return broken(format("its answer to request %u has request %u, flags %#x and %u bytes",
                             static_cast<unsigned>(request), header.request, header.flags, header.size));
    TRY_VOID(take(std::as_writable_bytes(std::span{&answer, 1})));
    return answer;
}

Result<void> VhostUser::take(std::span<std::byte> into) {
    while (!into.empty()) {
        TRY_VOID(wait(POLLIN));
        const auto got = ::read(socket_.get(), into.data(), into.size());
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return broken("no answer", errno);
        if (got == 0)
            return broken("it closed the connection");
        into = into.subspan(static_cast<std::size_t>(got));
    }
    return {};
}

Result<void> VhostUser::wait(short events) const {
    for (;;) {
        std::array<pollfd, 2> polled{{{socket_.get(), events, 0}, {cancel_, POLLIN, 0}}};
        const int ready = ::poll(polled.data(), polled.size(), milliseconds_until(deadline_));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            return broken(format("no answer within %lld ms", static_cast<long long>(conversation_time.count())));
        if (ready < 0 || polled[1].revents != 0)
            return broken("the conversation was cancelled");
        return {};
    }
}

} // namespace inox::devices::virtio
