// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/broker.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

#include "vmm/base/descriptors.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/outside/counters.hpp"
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

/// Where a refusal of it is counted; null: it is none.
std::atomic<std::uint64_t>* refusals_of(Op op) {
    auto& all = outside::counters();
    switch (op) {
    case Op::open:
    case Op::open_slowly:
    case Op::open_unnamed:
    case Op::remove:
    case Op::replace:
    case Op::make_folder:
    case Op::rename:
        return &all.files;
    case Op::bind:
    case Op::connect:
        return &all.sockets;
    case Op::open_tap:
        return &all.taps;
    case Op::start_passt:
    case Op::start_share:
        return &all.programs;
    default:
        return nullptr;
    }
}

void count(Op op, int error) {
    if (error == outside::unanswered)
        outside::counters().unanswered.fetch_add(1, std::memory_order_relaxed);
    else if (auto* const refusals = refusals_of(op); error == outside::refused && refusals != nullptr)
        refusals->fetch_add(1, std::memory_order_relaxed);
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

void Broker::tell_gone() {
    static std::atomic<bool> told{false};
    if (!told.exchange(true))
        log::write(log::Level::error,
                   "the process that opens files for inox has ended: nothing can be opened any more");
}

Result<std::unique_ptr<Broker>> Broker::narrow() {
    auto reply = ask(Op::narrow, 0, 0, "");
    if (reply.error == 0 && reply.first)
        return std::unique_ptr<Broker>{new Broker{std::move(reply.first), -1}};
    errno = reply.error;
    return fail_errno(Errc::host_error, "cannot start the process that opens files for a clone");
}

Broker::~Broker() {
    socket_.reset();
    if (pid_ < 0)
        return;
    for (int i = 0; i < 50; ++i) {
        if (::waitpid(pid_, nullptr, WNOHANG) != 0)
            return;
        const timespec pause{0, 200'000L + i * 20'000L};
        ::nanosleep(&pause, nullptr);
    }
}

/// Sends it. The socket that its answer comes to; or errno.
UniqueFd Broker::request(Op op, int flags, unsigned mode, std::string_view text, Fds fds) {
    if (text.size() > wire::most_text) {
        errno = ENAMETOOLONG;
        return {};
    }
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return {};
    UniqueFd near{ends[0]};
    const UniqueFd far{ends[1]};
    std::array<int, wire::most_fds> sent{far.get()};
    std::ranges::copy(fds, sent.begin() + 1);
    const wire::Request request{op, flags, mode};
    // Nobody may wait for a broker that does not read: its socket's buffer is full then.
    if (wire::send(socket_.get(), std::as_bytes(std::span{&request, 1}), text, std::span{sent}.first(1 + fds.size()),
                   MSG_DONTWAIT))
        return near;
    if (errno == EPIPE || errno == ECONNRESET) {
        tell_gone();
        errno = outside::gone;
    } else if (errno == EAGAIN || errno == ETOOMANYREFS) {
        errno = outside::unanswered;
    }
    return {};
}

/// One request and its answer.
Broker::Reply Broker::ask(Op op, int flags, unsigned mode, std::string_view text, Fds fds, int patience_ms) {
    auto reply = ask_once(op, flags, mode, text, fds, patience_ms);
    count(op, reply.error);
    return reply;
}

Broker::Reply Broker::ask_once(Op op, int flags, unsigned mode, std::string_view text, Fds fds, int patience_ms) {
    const int patience = patience_now(patience_ms);
    // These are done late rather than never.
    if (patience == 0 && op != Op::end && op != Op::remove && op != Op::replace)
        return {.error = outside::unanswered};
    const auto begin = Clock::now();
    const auto answer = request(op, flags, mode, text, fds);
    if (!answer)
        return {.error = errno};
    std::array<pollfd, 2> ready{{{answer.get(), POLLIN, 0}, {outside::until_fd(), POLLIN, 0}}};
    while (::poll(ready.data(), ready.size(), patience) < 0 && errno == EINTR)
        ;
    spend(begin);
    if (ready[0].revents != 0)
        return take(answer.get());
    note_silence();
    return {.error = outside::unanswered};
}

Broker::Reply Broker::take(int answer) {
    wire::Packet packet;
    if (!wire::receive(answer, packet) || packet.size != sizeof(wire::Answer)) {
        tell_gone();
        return {.error = outside::gone};
    }
    wire::Answer got{};
    std::memcpy(&got, packet.bytes.data(), sizeof got);
    return {got.error, got.number, std::move(packet.fds[0]), std::move(packet.fds[1])};
}

bool Broker::is_silent() {
    const std::lock_guard lock{mutex_};
    pollfd answer{ping_.get(), POLLIN, 0};
    if (ping_ && ::poll(&answer, 1, 0) == 1)
        ping_.reset(); // it answers again, or it has ended, which the next request finds
    return static_cast<bool>(ping_);
}

void Broker::note_silence() {
    const std::lock_guard lock{mutex_};
    if (ping_)
        return;
    ping_ = request(Op::ping, 0, 0, "");
    silent_since_ = Clock::now();
}

/// For how many milliseconds the calling thread may wait now.
int Broker::patience_now(int wanted_ms) {
    using std::chrono::milliseconds;
    const auto ms = [](Clock::duration time) {
        return static_cast<int>(std::chrono::duration_cast<milliseconds>(time).count());
    };
    const bool silent = is_silent();
    const std::lock_guard lock{mutex_};
    const auto now = Clock::now();
    if (!outside::is_brief()) { // all that ends a run does not wait again and again
        const auto until = silent_since_ + milliseconds{usual_patience_ms};
        const int left = silent && until > now ? ms(until - now) : 0;
        return silent ? std::clamp(left, brief_patience_ms, wanted_ms) : wanted_ms;
    }
    if (silent)
        return 0;
    if (now - spent_since_ > milliseconds{2 * brief_patience_ms}) {
        spent_since_ = now;
        spent_ = {};
    }
    return std::max(brief_patience_ms - ms(std::min<Clock::duration>(spent_, milliseconds{brief_patience_ms})), 1);
}

void Broker::spend(Clock::time_point from) {
    if (!outside::is_brief())
        return;
    const std::lock_guard lock{mutex_};
    spent_ += Clock::now() - from;
}

Broker::State Broker::state() {
    pollfd socket{socket_.get(), 0, 0};
    if (::poll(&socket, 1, 0) == 1 && (socket.revents & POLLHUP) != 0)
        return State::ended;
    return is_silent() ? State::silent : State::answers;
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
    if (request(Op::seal, 0, 0, ""))
        return {};
    return fail_errno(Errc::host_error, "cannot tell the process that opens files for inox that its list is complete");
}

UniqueFd Broker::open(const std::string& path, int flags, unsigned mode, outside::Wait wait) {
    // Who may wait shall not keep others from being served.
    const auto op = outside::is_brief() ? Op::open : Op::open_slowly;
    const int patience = wait == outside::Wait::long_ ? slow_patience_ms : usual_patience_ms;
    if (const int own = named_descriptor(path); own >= 0)
        return first_of(ask(Op::open, flags, mode, path, {own}));
    return first_of(ask(op, flags, mode, path, {}, patience));
}

UniqueFd Broker::open_unnamed() { return first_of(ask(Op::open_unnamed, 0, 0, "")); }

UniqueFd Broker::open_tap(const std::string& name, int flags) { return first_of(ask(Op::open_tap, flags, 0, name)); }

bool Broker::bind(int socket, const std::string& path, unsigned mode) {
    return done(ask(Op::bind, 0, mode, path, {socket}));
}

bool Broker::connect(int socket, const std::string& path) { return done(ask(Op::connect, 0, 0, path, {socket})); }

UniqueFd Broker::connect_later(int socket, const std::string& path) {
    if (!is_silent())
        return request(Op::connect, 0, 0, path, {socket});
    errno = outside::unanswered;
    count(Op::connect, errno);
    return {};
}

bool Broker::connected(int answer) {
    const auto reply = take(answer);
    count(Op::connect, reply.error);
    return done(reply);
}

bool Broker::can_bind(int type, std::string_view address) { return done(ask(Op::can_bind, type, 0, address)); }

bool Broker::remove(const std::string& path) { return done(ask(Op::remove, 0, 0, path)); }

bool Broker::make_folder(const std::string& path) { return done(ask(Op::make_folder, 0, 0, path)); }

bool Broker::rename(const std::string& from, const std::string& to) {
    return done(ask(Op::rename, 0, 0, from + '\0' + to, {}, slow_patience_ms));
}

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
    return reply.error == 0 ? reply.number : unknown;
}

void Broker::end(int helper) { (void)ask(Op::end, 0, static_cast<unsigned>(helper), ""); }

} // namespace inox::confine
