// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/keeper.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/host_files.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/jail/cgroup.hpp"
#include "vmm/jail/remove_tree.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

// What is told, and the answer to each.
constexpr char watch_word = 'w';
constexpr char own_word = 'o';
constexpr char not_own_word = 'n';
constexpr char done_word = 'd';

struct Message {
    char word{};
    pid_t sender{}; ///< as the keeper's PID namespace has it
};

/// Empty at the end of all senders.
Result<Message> receive(int socket) {
    Message out;
    iovec part{&out.word, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    if (::recvmsg(socket, &header, MSG_CMSG_CLOEXEC) <= 0)
        return fail(Errc::not_found, "the jail's processes are gone");
    for (auto* one = CMSG_FIRSTHDR(&header); one != nullptr; one = CMSG_NXTHDR(&header, one))
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_CREDENTIALS) {
            ucred sender{};
            std::memcpy(&sender, CMSG_DATA(one), sizeof sender);
            out.sender = sender.pid;
        }
    return out;
}

void answer(int socket, char word) { static_cast<void>(::send(socket, &word, 1, MSG_NOSIGNAL)); }

UniqueFd open_process(pid_t pid) {
    return UniqueFd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))}; // NOLINT(*-vararg)
}

/// A socket that nobody has open any more.
void remove_socket(const std::string& path) {
    struct stat status {};
    const auto address = unix_address(path);
    if (!address || ::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode))
        return;
    const UniqueFd client{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 &&
        errno == ECONNREFUSED)
        ::unlink(path.c_str());
}

/// Not one that has ended and that its parent has not waited for.
bool runs(pid_t pid) {
    const auto process = open_process(pid);
    pollfd end{process.get(), POLLIN, 0};
    return process && ::poll(&end, 1, 0) == 0;
}

void remove_pid_file(const std::string& path) {
    const auto pid = static_cast<pid_t>(host::read_number(path));
    if (pid > 0 && !runs(pid))
        ::unlink(path.c_str());
}

/// Until every sender has closed its end and every process to watch is gone. Whose the tree is, as far as that was
/// told.
std::optional<bool> wait_for_end(int socket) {
    std::optional<bool> owned;
    std::vector<UniqueFd> watched;
    while (const auto message = receive(socket)) {
        if (message->word == watch_word)
            watched.push_back(open_process(message->sender));
        else
            owned = message->word == own_word;
        answer(socket, message->word);
    }
    for (const auto& process : watched) {
        pollfd wait{process.get(), POLLIN, 0}; // one that could not be opened is ignored: it was gone
        while (::poll(&wait, 1, -1) < 0 && errno == EINTR)
            continue;
    }
    return owned;
}

[[noreturn]] void keep(const UniqueFd& socket, const Traces& traces) {
    ::prctl(PR_SET_NAME, "inox-keeper");
    ::setsid();
    for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGTSTP})
        ::signal(signal, SIG_IGN);
    (void)!::chdir("/");
    if (const UniqueFd nothing{::open("/dev/null", O_RDWR | O_CLOEXEC)}; nothing) // NOLINT(*-vararg)
        for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
            ::dup2(nothing.get(), fd);
    const auto number = static_cast<unsigned>(socket.get());
    if (number > STDERR_FILENO + 1U)
        ::close_range(STDERR_FILENO + 1, number - 1, 0);
    ::close_range(number + 1, ~0U, 0);
    const int on = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    answer(socket.get(), done_word);
    const auto owned = wait_for_end(socket.get());
    remove(traces, owned.value_or(!host::exists(traces.tree + "/" + tree_in_use)));
    answer(socket.get(), done_word);
    ::_exit(0);
}

} // namespace

void remove(const Traces& traces, bool with_tree) {
    for (const auto& group : traces.cgroups)
        remove_group(group);
    for (const auto& socket : traces.sockets)
        remove_socket(socket);
    if (!traces.pid_file.empty())
        remove_pid_file(traces.pid_file);
    if (with_tree && !traces.tree.empty())
        remove_tree(traces.tree);
}

Result<Keeper> Keeper::start(const Traces& traces) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
        return fail_os("Failed to make a socket for the keeper");
    Keeper out;
    out.socket_ = UniqueFd{pair[0]};
    UniqueFd far{pair[1]};
    const pid_t between = ::fork();
    if (between < 0)
        return fail_os("Failed to start the keeper");
    if (between == 0) {
        if (const pid_t child = ::fork(); child != 0)
            ::_exit(child < 0 ? 1 : 0);
        out.socket_.reset();
        keep(far, traces);
    }
    int status = 0;
    while (::waitpid(between, &status, 0) < 0 && errno == EINTR)
        continue;
    char word = 0;
    far.reset(); // else its death would not be noticed
    if (::recv(out.socket_.get(), &word, 1, 0) != 1)
        return fail(Errc::host_error, "Failed to start the keeper");
    return out;
}

Result<void> Keeper::tell(char word) const {
    if (!socket_)
        return {};
    char heard = 0;
    if (::send(socket_.get(), &word, 1, MSG_NOSIGNAL) != 1 || ::recv(socket_.get(), &heard, 1, 0) != 1)
        return fail(Errc::host_error, "the jail's keeper is gone");
    return {};
}

Result<void> Keeper::watch_me() const { return tell(watch_word); }
Result<void> Keeper::owns_tree(bool own) const { return tell(own ? own_word : not_own_word); }

void Keeper::finish(const Traces& traces) {
    if (!socket_)
        return;
    ::shutdown(socket_.get(), SHUT_WR);
    char word = 0;
    if (::recv(socket_.get(), &word, 1, 0) != 1)
        remove(traces, false);
    socket_.reset();
}

} // namespace inox::jail
