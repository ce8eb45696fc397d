// SPDX-License-Identifier: Apache-2.0
// The broker's own process: one thread, no state but the list and the helpers it started.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" { // glibc 2.36 forgot it in this header
#include <sys/pidfd.h>
}

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/child_process.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/confine/allow_list.hpp"
#include "vmm/confine/broker_wire.hpp"
#include "vmm/confine/passt_words.hpp"
#include "vmm/share/process.hpp"

namespace inox::confine::wire {
namespace {

constexpr std::size_t most_helpers = 64;
constexpr std::size_t most_slow = 4;
constexpr off_t most_contents = 64 * 1024 * 1024;

/// What goes back: an error, or a number and descriptors.
struct Outcome {
    int error{};
    int number{};
    UniqueFd first{};
    UniqueFd second{};
};

Outcome done(bool good) { return {.error = good ? 0 : errno}; }

Outcome opened(UniqueFd file) {
    if (!file)
        return {.error = errno};
    return {.first = std::move(file)};
}

struct Process {
    int number;
    pid_t pid;
    std::optional<int> status; ///< it ended
};

class Server {
public:
    explicit Server(UniqueFd socket, AllowList list = {}) : socket_{std::move(socket)}, list_{std::move(list)} {}
    void run();

private:
    [[nodiscard]] Outcome act(const Request& request, std::string text, Packet& packet);
    [[nodiscard]] Outcome allow(const std::string& text);
    [[nodiscard]] Outcome open(const Request& request, const std::string& path, const UniqueFd& again);
    [[nodiscard]] Outcome replace(const std::string& path, const UniqueFd& contents);
    [[nodiscard]] Outcome start_passt(const std::string& text, UniqueFd served, UniqueFd errors);
    [[nodiscard]] Outcome start_share(const std::string& folder, bool read_only);
    [[nodiscard]] Outcome keep(pid_t pid, UniqueFd socket);
    [[nodiscard]] Outcome narrow() const;
    [[nodiscard]] Outcome status(int number);
    void end(int number);
    void act_slowly(const Request& request, const std::string& text, const UniqueFd& answer);
    [[nodiscard]] Outcome rename(const std::string& text) const;
    static bool answer(const UniqueFd& to, const Outcome& outcome);

    UniqueFd socket_;
    AllowList list_{};
    bool sealed_{false};
    std::vector<Process> helpers_{};
    std::vector<pid_t> slow_{}; ///< processes that open something that takes long
    int next_{1};
};

/// Who does not wait any more gets nothing, and what would be nobody's is not made.
bool is_in_vain(Op op, const UniqueFd& to) {
    switch (op) {
    case Op::open:
    case Op::open_slowly:
    case Op::open_unnamed:
    case Op::open_tap:
    case Op::bind:
    case Op::connect:
    case Op::start_passt:
    case Op::narrow:
    case Op::start_share: {
        pollfd other{to.get(), 0, 0};
        return ::poll(&other, 1, 0) == 1 && (other.revents & POLLHUP) != 0;
    }
    default:
        return false;
    }
}

bool Server::answer(const UniqueFd& to, const Outcome& outcome) {
    const Answer answer{outcome.error, outcome.number};
    std::array<int, 2> fds{outcome.first.get(), outcome.second.get()};
    const std::size_t count = outcome.second ? 2 : outcome.first ? 1 : 0;
    return send(to.get(), std::as_bytes(std::span{&answer, 1}), {}, std::span{fds}.first(count), MSG_DONTWAIT);
}

void Server::run() {
    Packet packet;
    while (receive(socket_.get(), packet)) {
        Request request{};
        const UniqueFd to = std::move(packet.fds[0]);
        if (packet.size < sizeof request || !to)
            continue; // nobody to tell
        std::memcpy(&request, packet.bytes.data(), sizeof request);
        std::string text(packet.size - sizeof request, '\0');
        std::memcpy(text.data(), packet.bytes.data() + sizeof request, text.size());
        if (is_in_vain(request.op, to))
            continue;
        if (request.op == Op::open_slowly || request.op == Op::rename) {
            act_slowly(request, text, to);
            continue;
        }
        const auto outcome = act(request, std::move(text), packet);
        const bool helper = request.op == Op::start_passt || request.op == Op::start_share;
        if (!answer(to, outcome) && helper)
            end(outcome.number);
    }
}

Outcome Server::act(const Request& request, std::string text, Packet& packet) {
    const auto number = static_cast<int>(request.mode);
    switch (request.op) {
    case Op::allow:
        return allow(text);
    case Op::seal:
        sealed_ = true;
        return {};
    case Op::open:
        return open(request, text, packet.fds[1]);
    case Op::open_unnamed:
        return opened(outside::open_unnamed());
    case Op::open_tap:
        errno = outside::refused;
        return opened(list_.has_tap(text) ? outside::open_tap(text, request.flags) : UniqueFd{});
    case Op::bind:
        return done(packet.fds[1] && list_.bind(packet.fds[1].get(), text, request.mode & 0777U));
    case Op::connect:
        return done(packet.fds[1] && list_.connect(packet.fds[1].get(), text));
    case Op::can_bind:
        return done(outside::can_bind(request.flags, text));
    case Op::remove:
        return done(list_.remove(text));
    case Op::make_folder:
        return done(list_.make_folder(text));
    case Op::replace:
        return replace(text, packet.fds[1]);
    case Op::start_passt:
        return start_passt(text, std::move(packet.fds[1]), std::move(packet.fds[2]));
    case Op::start_share:
        return start_share(text, request.flags != 0);
    case Op::status:
        return status(number);
    case Op::end:
        end(number);
        return {};
    case Op::ping:
        return {};
    case Op::narrow:
        return narrow();
    case Op::open_slowly:
    case Op::rename:
        break;
    }
    return {.error = EINVAL};
}

Outcome Server::allow(const std::string& text) {
    if (sealed_)
        return {.error = EPERM};
    for (std::size_t start = 0; start < text.size();) {
        const auto end = std::min(text.find('\0', start), text.size());
        const int purpose = text[start] - 'a';
        if (end < start + 2 || purpose < 0 || purpose > static_cast<int>(Purpose::tap))
            return {.error = EINVAL};
        if (!list_.add(text.substr(start + 1, end - start - 1), static_cast<Purpose>(purpose)))
            return {.error = errno};
        start = end + 1;
    }
    return {};
}

/// What the process has open already it may open again, but for no more.
Outcome Server::open(const Request& request, const std::string& path, const UniqueFd& again) {
    if (!again)
        return opened(list_.open(path, request.flags, request.mode));
    const int has = ::fcntl(again.get(), F_GETFL); // NOLINT(*-vararg)
    const int wants = request.flags & O_ACCMODE;
    const bool more = has < 0 || (has & O_PATH) != 0 || ((has & O_ACCMODE) != O_RDWR && (has & O_ACCMODE) != wants) ||
                      ((request.flags & O_TRUNC) != 0 && (has & O_ACCMODE) == O_RDONLY);
    if (more)
        return {.error = outside::refused};
    const int flags = request.flags & (O_ACCMODE | O_NONBLOCK | O_NOCTTY | O_APPEND | O_TRUNC | O_DIRECT);
    return opened(
        UniqueFd{::open(format("/proc/self/fd/%d", again.get()).c_str(), flags | O_CLOEXEC)}); // NOLINT(*-vararg)
}

Outcome Server::rename(const std::string& text) const {
    const auto end = text.find('\0');
    errno = EINVAL;
    return done(end != text.npos && list_.rename(text.substr(0, end), text.substr(end + 1)));
}

/// A device may take a second to open, and a disk to have a folder on it. A process of its own does that, so that
/// others are served meanwhile.
void Server::act_slowly(const Request& request, const std::string& text, const UniqueFd& to) {
    std::erase_if(slow_, [](pid_t one) { return ::waitpid(one, nullptr, WNOHANG) != 0; });
    const pid_t pid = slow_.size() < most_slow ? ::fork() : -1;
    if (pid > 0) {
        slow_.push_back(pid);
        return;
    }
    answer(to, request.op == Op::rename ? rename(text) : opened(list_.open(text, request.flags, request.mode)));
    if (pid == 0)
        ::_exit(0);
}

Outcome Server::replace(const std::string& path, const UniqueFd& contents) {
    struct stat status {};
    if (!contents || ::fstat(contents.get(), &status) != 0 || status.st_size > most_contents)
        return {.error = EFBIG};
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    if (::pread(contents.get(), text.data(), text.size(), 0) != status.st_size)
        return {.error = EIO};
    return done(list_.replace(path, text));
}

Outcome Server::keep(pid_t pid, UniqueFd socket) {
    UniqueFd process{::pidfd_open(pid, 0)};
    helpers_.push_back({next_, pid, std::nullopt});
    return {.number = next_++, .first = std::move(process), .second = std::move(socket)};
}

Outcome Server::start_passt(const std::string& text, UniqueFd served, UniqueFd errors) {
    std::vector<std::string> words;
    for (std::size_t start = 0; start < text.size();) {
        const auto end = std::min(text.find('\0', start), text.size());
        words.push_back(text.substr(start, end - start));
        start = end + 1;
    }
    if (!served || !errors || helpers_.size() >= most_helpers || words.empty())
        return {.error = words.empty() ? EINVAL : EAGAIN};
    if (!are_passt_words(std::span{words}.subspan(1)))
        return {.error = outside::refused};
    words.front() = find_program("passt");
    if (words.front().empty())
        return {.error = ENOENT};
    const pid_t pid =
        spawn({.path = words.front(), .words = words, .descriptors = {served.get()}, .errors = errors.get()});
    return pid < 0 ? Outcome{.error = errno} : keep(pid, {});
}

Outcome Server::start_share(const std::string& folder, bool read_only) {
    if (helpers_.size() >= most_helpers)
        return {.error = EAGAIN};
    const auto root = list_.open_folder(folder, read_only);
    if (!root)
        return {.error = errno};
    auto planned = share::plan(root.get(), read_only, share::own_program);
    const pid_t pid = planned ? spawn(planned->program) : -1;
    return pid < 0 ? Outcome{.error = errno} : keep(pid, std::move(planned->socket));
}

Outcome Server::status(int number) {
    const auto found = std::ranges::find(helpers_, number, &Process::number);
    if (found == helpers_.end())
        return {.error = ESRCH};
    int status = 0;
    if (!found->status && ::waitpid(found->pid, &status, WNOHANG) == found->pid)
        found->status = status;
    return found->status ? Outcome{.number = *found->status} : Outcome{.error = EAGAIN};
}

void Server::end(int number) {
    const auto found = std::ranges::find(helpers_, number, &Process::number);
    if (found == helpers_.end())
        return;
    if (!found->status) { // not yet reaped, so the number is its own still
        ::kill(found->pid, SIGKILL);
        // One that waits for storage cannot be killed; it is nobody's child once this process has ended.
        for (int i = 0; i < 40 && ::waitpid(found->pid, nullptr, WNOHANG) == 0; ++i) {
            const timespec pause{0, 1'000'000};
            ::nanosleep(&pause, nullptr);
        }
    }
    helpers_.erase(found);
}

/// Only the end of the process that it serves ends it: it is needed until then. It holds no output of inox open.
void set_up(UniqueFd& socket) {
    ::setsid();
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE})
        ::signal(signal, SIG_IGN);
    ::signal(SIGCHLD, SIG_DFL);
    sigset_t none{};
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::prctl(PR_SET_NAME, "inox-broker", 0, 0, 0); // NOLINT(*-vararg)
    ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);         // NOLINT(*-vararg)
    constexpr int own = 3;
    if (socket.get() != own) {
        if (::dup3(socket.get(), own, O_CLOEXEC) != own)
            ::_exit(1);
        socket.reset(own);
    }
    const int nothing = ::open("/dev/null", O_RDWR); // NOLINT(*-vararg): a jail may have none
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
        if (::dup2(nothing, fd) < 0)
            ::close(fd);
    ::close_range(own + 1, ~0U, 0);
}

/// Its parent is that of this process, which outlives neither; it knows no helper of this one.
Outcome Server::narrow() const {
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return {.error = errno};
    UniqueFd near{ends[0]};
    UniqueFd far{ends[1]};
    const long pid =
        ::syscall(SYS_clone, CLONE_PARENT | SIGCHLD, nullptr, nullptr, nullptr, nullptr); // NOLINT(*-vararg)
    if (pid < 0)
        return {.error = errno};
    if (pid == 0) {
        set_up(far);
        auto list = list_;
        list.narrow();
        Server{std::move(far), std::move(list)}.run();
        ::_exit(0);
    }
    return {.number = static_cast<int>(pid), .first = std::move(near)};
}

} // namespace

void serve(UniqueFd socket) noexcept {
    set_up(socket);
    Server{std::move(socket)}.run();
    ::_exit(0);
}

} // namespace inox::confine::wire
