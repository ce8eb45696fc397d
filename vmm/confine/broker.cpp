// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/broker.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

#include "vmm/base/descriptors.hpp"
#include "vmm/base/log.hpp"
#include "vmm/confine/broker_wire.hpp"

namespace inox::confine {
namespace {

using wire::Op;

constexpr int slow_patience_ms = 120'000;

/// The number of a descriptor that the path names as its own: "/dev/fd/5"; -1: none.
int named_descriptor(std::string_view path) {
    for (const auto folder : descriptors::folders) {
        if (!path.starts_with(folder))
            continue;
        const auto digits = path.substr(folder.size());
        int fd = -1;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), fd);
        if (error == std::errc{} && end == digits.data() + digits.size())
            return fd;
    }
    return -1;
}

void tell_gone() {
    static std::atomic<bool> told{false};
    if (!told.exchange(true))
        log::write(log::Level::error,
                   "the process that opens files for inox has ended: nothing can be opened any more");
}

} // namespace

Result<std::unique_ptr<Broker>> Broker::start() {
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return fail_errno(Errc::host_error, "cannot make a pair of sockets");
    UniqueFd near{ends[0]};
    UniqueFd far{ends[1]};
    sigset_t all{};
    sigset_t before{};
    ::sigfillset(&all); // one for the whole group must not end it before it ignores them
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = ::fork();
    if (pid != 0)
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0)
        return fail_errno(Errc::host_error, "cannot start the process that opens files for inox");
    if (pid == 0)
        wire::serve(std::move(far)); // which closes all others
    return std::unique_ptr<Broker>{new Broker{std::move(near), pid}};
}

Broker::~Broker() {
    socket_.reset();
    for (int i = 0; i < 50; ++i) {
        if (::waitpid(pid_, nullptr, WNOHANG) != 0)
            return;
        const timespec pause{0, 200'000L + i * 20'000L};
        ::nanosleep(&pause, nullptr);
    }
}

/// One request and its answer.
Broker::Reply Broker::ask(Op op, int flags, unsigned mode, std::string_view text, std::initializer_list<int> fds,
                          int patience_ms) {
    if (text.size() > wire::most_text)
        return {.error = ENAMETOOLONG};
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return {.error = errno};
    const UniqueFd near{ends[0]};
    UniqueFd far{ends[1]};
    std::array<int, wire::most_fds> sent{far.get()};
    std::ranges::copy(fds, sent.begin() + 1);
    const wire::Request request{op, flags, mode};
    // Nobody may wait for a broker that does not read: its socket's buffer is full then.
    if (!wire::send(socket_.get(), std::as_bytes(std::span{&request, 1}), text, std::span{sent}.first(1 + fds.size()),
                    MSG_DONTWAIT)) {
        if (errno == EPIPE || errno == ECONNRESET)
            tell_gone();
        return {.error = errno};
    }
    far.reset();
    pollfd answer{near.get(), POLLIN, 0};
    int ready = 0;
    do
        ready = ::poll(&answer, 1, patience_ms);
    while (ready < 0 && errno == EINTR);
    if (ready <= 0)
        return {.error = ETIMEDOUT};
    wire::Packet packet;
    if (!wire::receive(near.get(), packet) || packet.size != sizeof(wire::Answer)) {
        tell_gone();
        return {.error = EPIPE};
    }
    wire::Answer got{};
    std::memcpy(&got, packet.bytes.data(), sizeof got);
    return {got.error, got.number, std::move(packet.fds[0]), std::move(packet.fds[1])};
}

namespace {

template <class Reply> bool done(const Reply& reply) {
    errno = reply.error;
    return reply.error == 0;
}

/// The descriptor, or errno.
template <class Reply> UniqueFd first_of(Reply reply) {
    UniqueFd fd = std::move(reply.first);
    errno = reply.error != 0 ? reply.error : fd ? 0 : EPROTO;
    return fd;
}

} // namespace

Result<void> Broker::allow(std::span<const Allowed> entries) {
    std::string text;
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const auto& [path, purpose] = entries[i];
        text.push_back(static_cast<char>('a' + static_cast<int>(purpose)));
        text.append(path).push_back('\0');
        const bool room = i + 1 < entries.size() && text.size() + entries[i + 1].path.size() + 2 <= wire::most_text;
        if (room)
            continue;
        if (path.contains('\0') || !done(ask(Op::allow, 0, 0, text)))
            return fail_errno(Errc::host_error, "cannot tell the process that opens files for inox what it may open");
        text.clear();
    }
    return {};
}

Result<void> Broker::seal() {
    if (done(ask(Op::seal, 0, 0, "")))
        return {};
    return fail_errno(Errc::host_error, "the process that opens files for inox does not answer");
}

UniqueFd Broker::open(const std::string& path, int flags, unsigned mode, outside::Wait wait) {
    const bool slow = wait == outside::Wait::long_;
    const auto op = slow ? Op::open_slowly : Op::open;
    if (const int own = named_descriptor(path); own >= 0)
        return first_of(ask(Op::open, flags, mode, path, {own}));
    return first_of(ask(op, flags, mode, path, {}, slow ? slow_patience_ms : usual_patience_ms));
}

UniqueFd Broker::open_unnamed() { return first_of(ask(Op::open_unnamed, 0, 0, "")); }

UniqueFd Broker::open_tap(const std::string& name, int flags) { return first_of(ask(Op::open_tap, flags, 0, name)); }

bool Broker::bind(int socket, const std::string& path, unsigned mode) {
    return done(ask(Op::bind, 0, mode, path, {socket}));
}

bool Broker::connect(int socket, const std::string& path) { return done(ask(Op::connect, 0, 0, path, {socket})); }

bool Broker::can_bind(int type, std::string_view address) { return done(ask(Op::can_bind, type, 0, address)); }

bool Broker::remove(const std::string& path) { return done(ask(Op::remove, 0, 0, path)); }

bool Broker::replace(const std::string& path, std::string_view text) {
    const UniqueFd contents{::memfd_create("inox-output", MFD_CLOEXEC)};
    if (!contents || !write_all(contents.get(), text))
        return false;
    return done(ask(Op::replace, 0, 0, path, {contents.get()}));
}

std::optional<outside::Helper> Broker::start_passt(const std::vector<std::string>& words, int served, int errors) {
    std::string text;
    for (const auto& word : words)
        text.append(word).push_back('\0');
    auto reply = ask(Op::start_passt, 0, 0, text, {served, errors});
    if (!done(reply))
        return std::nullopt;
    return outside::Helper{reply.number, std::move(reply.first), {}};
}

std::optional<outside::Helper> Broker::start_share(const std::string& folder, bool read_only) {
    auto reply = ask(Op::start_share, read_only ? 1 : 0, 0, folder);
    if (!done(reply))
        return std::nullopt;
    return outside::Helper{reply.number, std::move(reply.first), std::move(reply.second)};
}

std::optional<int> Broker::status(int helper) {
    const auto reply = ask(Op::status, 0, static_cast<unsigned>(helper), "");
    if (reply.error == EAGAIN)
        return std::nullopt; // it runs
    return reply.error == 0 ? reply.number : 0;
}

void Broker::end(int helper) { (void)ask(Op::end, 0, static_cast<unsigned>(helper), ""); }

} // namespace inox::confine
