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

namespace devices::virtio {

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
constexpr std::size_t max_answer = 4096;

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

// What the protocol calls a user address is only a name for a place in the shared table.
std::uint64_t user_address(const vmm::GuestMemory& memory, vmm::Iova address, std::uint64_t size) {
    const auto host = memory.host(vmm::Gpa{address.raw()}, size);
    return host ? reinterpret_cast<std::uint64_t>(host->data()) : 0; // NOLINT
}

vmm::Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return vmm::fail(
            vmm::Errc::config_value,
            vmm::format("socket path of %zu bytes is longer than %zu", path.size(), sizeof address.sun_path - 1),
            "use a shorter path");
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

std::unexpected<vmm::Error> no_daemon(const std::string& path) {
    return vmm::fail_errno(vmm::Errc::not_found, "no vhost-user daemon answers at '" + path + "'",
                           "start one first, such as: virtiofsd --socket-path=" + path +
                               " -o source=/the/folder (/usr/lib/qemu/virtiofsd on Debian 12)");
}

} // namespace

std::unexpected<vmm::Error> VhostUser::broken(const char* what) const {
    return vmm::fail_errno(vmm::Errc::host_error, std::string{"vhost-user daemon at '"} + path_ + "': " + what,
                           "see the daemon's own messages; start it again before the next guest");
}

vmm::Result<VhostUser> VhostUser::connect(const std::string& path) {
    const auto address = TRY(address_of(path));
    vmm::UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    // NOLINTNEXTLINE: the socket interface casts
    if (!socket || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return no_daemon(path);
    VhostUser client{path, std::move(socket)};
    TRY_VOID(client.negotiate());
    return client;
}

vmm::Result<void> VhostUser::check(const std::string& path) {
    TRY(address_of(path));
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || ::access(path.c_str(), W_OK) != 0)
        return no_daemon(path);
    errno = ECONNREFUSED;
    return S_ISSOCK(status.st_mode) ? vmm::Result<void>{} : no_daemon(path);
}

vmm::Result<void> VhostUser::negotiate() {
    features_ = TRY(ask(Request::get_features));
    TRY_VOID(send(Request::set_owner, {}, {}, false));
    if ((features_ & has_protocol_features) == 0)
        return vmm::fail(vmm::Errc::unsupported, "the vhost-user daemon at '" + path_ + "' has no protocol features",
                         "use a daemon of this decade, such as virtiofsd");
    const std::uint64_t offered = TRY(ask(Request::get_protocol_features));
    const std::uint64_t wanted = offered & protocol_reply_ack;
    TRY_VOID(send(Request::set_protocol_features, bytes_of(wanted), {}, false));
    acknowledges_ = wanted != 0;
    return {};
}

vmm::Result<void> VhostUser::set_features(std::uint64_t features) {
    const std::uint64_t all = features | has_protocol_features;
    return send(Request::set_features, bytes_of(all));
}

vmm::Result<void> VhostUser::share_memory(const vmm::GuestMemory& memory) {
    std::vector<std::byte> body(8);
    std::vector<int> fds;
    const auto count = static_cast<std::uint32_t>(memory.regions().size());
    std::memcpy(body.data(), &count, sizeof count);
    for (const vmm::RamRegion& region : memory.regions()) {
        const MemoryRegion entry{region.range.start().raw(), region.range.size(),
                                 reinterpret_cast<std::uint64_t>(region.host.data()), // NOLINT
                                 region.file_offset};
        const auto raw = bytes_of(entry);
        body.insert(body.end(), raw.begin(), raw.end());
        fds.push_back(memory.fd());
    }
    return send(Request::set_mem_table, body, fds);
}

vmm::Result<void> VhostUser::start_ring(const Ring& ring, const vmm::GuestMemory& memory) {
    const std::uint64_t size = ring.layout.size;
    const RingAddress address{ring.index,
                              0,
                              user_address(memory, ring.layout.descriptors, size * 16),
                              user_address(memory, ring.layout.used, 6 + size * 8),
                              user_address(memory, ring.layout.available, 6 + size * 2),
                              0};
    if (address.descriptors == 0 || address.used == 0 || address.available == 0)
        return vmm::fail(vmm::Errc::config_value, "the guest's ring lies outside its memory");
    TRY_VOID(send(Request::set_vring_num, bytes_of(RingNumber{ring.index, ring.layout.size})));
    TRY_VOID(send(Request::set_vring_base, bytes_of(RingNumber{ring.index, 0})));
    TRY_VOID(send(Request::set_vring_addr, bytes_of(address)));
    const std::uint64_t index = ring.index;
    const std::array kick{ring.kick.fd()};
    const std::array call{ring.call.fd()};
    TRY_VOID(send(Request::set_vring_call, bytes_of(index), call));
    TRY_VOID(send(Request::set_vring_kick, bytes_of(index), kick));
    return send(Request::set_vring_enable, bytes_of(RingNumber{ring.index, 1}));
}

vmm::Result<void> VhostUser::stop_ring(unsigned index) {
    TRY_VOID(send(Request::set_vring_enable, bytes_of(RingNumber{index, 0})));
    TRY(ask(Request::get_vring_base, bytes_of(RingNumber{index, 0})));
    return {};
}

vmm::Result<void> VhostUser::send(Request request, std::span<const std::byte> body, std::span<const int> fds,
                                  bool acknowledge) {
    const bool ask_reply = acknowledge && acknowledges_;
    Header header{static_cast<std::uint32_t>(request), version | (ask_reply ? flag_need_reply : 0),
                  static_cast<std::uint32_t>(body.size())};
    std::array<iovec, 2> pieces{
        {{&header, sizeof header}, {const_cast<std::byte*>(body.data()), body.size()}}}; // NOLINT
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(8 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = body.empty() ? 1 : 2;
    if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
    }
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    // Messages are small: a stream socket takes them whole or its reader is gone.
    if (sent != static_cast<ssize_t>(sizeof header + body.size()))
        return broken("it does not take messages");
    if (!ask_reply)
        return {};
    const auto answer = TRY(receive(request));
    if (vmm::load_le(answer) != 0) {
        errno = 0;
        return broken("it refused a message");
    }
    return {};
}

vmm::Result<std::uint64_t> VhostUser::ask(Request request, std::span<const std::byte> body) {
    TRY_VOID(send(request, body, {}, false));
    const auto answer = TRY(receive(request));
    return vmm::load_le(answer);
}

vmm::Result<std::vector<std::byte>> VhostUser::receive(Request request) {
    auto take = [&](std::span<std::byte> into) {
        while (!into.empty()) {
            pollfd poll{socket_.get(), POLLIN, 0};
            const int ready = ::poll(&poll, 1, answer_time_ms);
            if (ready < 0 && errno == EINTR)
                continue;
            const auto got = ready == 1 ? ::read(socket_.get(), into.data(), into.size()) : 0;
            if (got <= 0)
                return false;
            into = into.subspan(static_cast<std::size_t>(got));
        }
        return true;
    };
    Header header{};
    if (!take(std::as_writable_bytes(std::span{&header, 1})))
        return broken("no answer");
    std::vector<std::byte> body(header.size < max_answer ? header.size : 0);
    if (header.request != static_cast<std::uint32_t>(request) || (header.flags & flag_reply) == 0 ||
        header.size >= max_answer || !take(body))
        return broken("its answer makes no sense");
    return body;
}

} // namespace devices::virtio
