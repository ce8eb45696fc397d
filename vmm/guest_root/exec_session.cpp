// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/exec_session.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::guest_root {
namespace {

// As in init/exec.c
constexpr std::size_t input_window = 64 * KiB; ///< that may be on its way to the command
constexpr std::size_t largest_frame = 64 * KiB;
constexpr std::size_t head_size = 5;
constexpr std::size_t piece = 32 * KiB;

std::unexpected<Error> lost() {
    return fail(Errc::host_error, "the connection to the guest ended before the command did",
                "the guest has ended, or its init was killed: see its console");
}

/// "CONNECT 1024", and the answer "OK" with a number.
Result<void> shake_hands(int guest, std::chrono::milliseconds limit) {
    const std::string hello = format("CONNECT %u\n", exec_port);
    if (::send(guest, hello.data(), hello.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(hello.size()))
        return fail_errno(Errc::not_found, "cannot ask for the guest's port");
    const auto end = std::chrono::steady_clock::now() + limit;
    std::string answer;
    while (!answer.ends_with('\n')) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
        pollfd polled{guest, POLLIN, 0};
        char c{};
        if (left.count() <= 0 || ::poll(&polled, 1, static_cast<int>(left.count())) == 0)
            return fail(Errc::timed_out, "the guest did not answer in time",
                        "see whether it is paused, or still boots");
        const auto count = ::recv(guest, &c, 1, 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0 || answer.size() > 64)
            return fail(Errc::not_found, "nobody in the guest takes commands",
                        "start it with --root and --vsock, and wait until it has booted");
        answer += c;
    }
    if (!answer.starts_with("OK "))
        return fail(Errc::host_error, "the socket answered " + in_quotes(answer), "it is no vsock of inox");
    return {};
}

class Session {
public:
    Session(UniqueFd guest, const ExecStreams& streams, bool terminal)
        : guest_{std::move(guest)}, streams_{streams}, terminal_{terminal} {}

    Result<int> run(const ExecRequest& request);

private:
    struct Output {
        int to;
        std::string left{};
    };
    void put(char type, std::string_view data) {
        const auto size = static_cast<std::uint32_t>(data.size());
        for (unsigned shift = 0; shift < 32; shift += 8)
            to_guest_ += static_cast<char>(size >> shift & 0xffU);
        to_guest_.append(1, type).append(data);
    }
    void put_window(Window window);
    void flush_to_guest();
    void read_input();
    void read_guest();
    void take_frames();
    void take(char type, std::string_view data);
    void write_out(Output& output);
    void on_signal();
    [[nodiscard]] bool has_output() const { return !out_.left.empty() || !err_.left.empty(); }

    UniqueFd guest_;
    UniqueFd signals_{};
    ExecStreams streams_;
    bool terminal_;
    std::string to_guest_{};   ///< at most a start, or the window and some signals
    std::string from_guest_{}; ///< at most one frame and a piece
    Output out_{streams_.output};
    Output err_{streams_.error};
    std::size_t on_way_{0}; ///< of the input
    bool input_ended_{false};
    bool guest_ended_{false};
    std::optional<int> status_{};
    std::optional<Error> error_{};
};

void Session::put_window(Window window) {
    const char bytes[] = {static_cast<char>(window.rows & 0xff), static_cast<char>(window.rows >> 8),
                          static_cast<char>(window.columns & 0xff), static_cast<char>(window.columns >> 8)};
    put('W', {bytes, sizeof bytes});
}

void Session::flush_to_guest() {
    const auto count = ::send(guest_.get(), to_guest_.data(), to_guest_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0)
        to_guest_.erase(0, static_cast<std::size_t>(count));
    else if (count < 0 && errno != EAGAIN && errno != EINTR)
        to_guest_.clear(); // it is gone: what it said before is still to be read
}

void Session::read_input() {
    std::array<char, piece> buffer; // NOLINT: filled by read
    const auto room = std::min(buffer.size(), input_window - on_way_);
    const auto count = ::read(streams_.input, buffer.data(), room);
    if (count < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (count > 0) {
        on_way_ += static_cast<std::size_t>(count);
        return put('I', {buffer.data(), static_cast<std::size_t>(count)});
    }
    input_ended_ = true;
    put('E', {});
}

void Session::read_guest() {
    std::array<char, piece> buffer; // NOLINT: filled by recv
    const auto count = ::recv(guest_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (count <= 0)
        guest_ended_ = true;
    else
        from_guest_.append(buffer.data(), static_cast<std::size_t>(count));
}

/// Frames that are whole, until one has output that is not written yet.
void Session::take_frames() {
    while (!error_ && !has_output() && from_guest_.size() >= head_size) {
        std::size_t size = 0;
        for (unsigned i = 0; i < 4; ++i)
            size |= std::size_t{static_cast<unsigned char>(from_guest_[i])} << 8 * i;
        if (size > largest_frame) {
            error_ = make_error(Errc::host_error, "the guest sent what is not the protocol of inox's init");
            return;
        }
        if (from_guest_.size() < head_size + size)
            return;
        take(from_guest_[4], std::string_view{from_guest_}.substr(head_size, size));
        from_guest_.erase(0, head_size + size);
    }
}

void Session::take(char type, std::string_view data) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(data[i]); };
    if (type == 'O') {
        out_.left = data;
    } else if (type == 'R') {
        err_.left = data;
    } else if (type == 'A' && data.size() == 4) {
        const auto taken =
            byte(0) | std::size_t{byte(1)} << 8 | std::size_t{byte(2)} << 16 | std::size_t{byte(3)} << 24;
        on_way_ -= std::min(on_way_, taken);
    } else if (type == 'X' && data.size() == 2) {
        status_ = byte(0) != 0 ? 128 + byte(1) : byte(1);
    } else if (type == 'F') {
        error_ = make_error(Errc::host_error, "the guest cannot start the command: " + printable(data));
    } else {
        error_ = make_error(Errc::host_error, "the guest sent what is not the protocol of inox's init");
    }
}

void Session::write_out(Output& output) {
    const auto count = ::write(output.to, output.left.data(), output.left.size());
    if (count > 0)
        output.left.erase(0, static_cast<std::size_t>(count));
    else if (count < 0 && errno != EINTR && errno != EAGAIN)
        output.left.clear(); // nobody reads: the command goes on, as into a pipe that is drained
}

void Session::on_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != sizeof info)
        return;
    if (to_guest_.size() > input_window)
        return; // it does not read: one of the first ones will do
    if (info.ssi_signo != SIGWINCH) {
        const char number = static_cast<char>(info.ssi_signo);
        return put('K', {&number, 1});
    }
    winsize size{};
    if (terminal_ && ::ioctl(streams_.input, TIOCGWINSZ, &size) == 0)
        put_window({size.ws_row, size.ws_col});
}

Result<int> Session::run(const ExecRequest& request) {
    sigset_t signals;
    ::sigemptyset(&signals);
    for (const int one : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH})
        ::sigaddset(&signals, one);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    signals_ = UniqueFd{::signalfd(-1, &signals, SFD_CLOEXEC)};
    std::string start;
    const auto add = [&](std::string_view key, std::string_view value) {
        start.append(key).append("=").append(value).push_back('\0');
    };
    for (const auto& argument : request.arguments)
        add("argument", argument);
    for (const auto& variable : request.environment)
        add("env", variable);
    add("directory", request.directory.empty() ? "/" : request.directory);
    if (request.terminal) {
        add("terminal", "1");
        add("window", format("%u %u", request.terminal->rows, request.terminal->columns));
    }
    put('S', start);
    while (!error_ && !(status_ && !has_output())) {
        if (guest_ended_ && !has_output())
            return lost();
        const auto events = [](bool wanted, short what) { return wanted ? what : short{0}; };
        const bool input = !input_ended_ && on_way_ < input_window && to_guest_.size() < input_window;
        // A descriptor that is not wanted is left out: its error alone would keep poll() from waiting
        pollfd polled[] = {
            {guest_ended_ ? -1 : guest_.get(),
             static_cast<short>(events(!has_output(), POLLIN) | events(!to_guest_.empty(), POLLOUT)), 0},
            {input ? streams_.input : -1, POLLIN, 0},
            {signals_.get(), POLLIN, 0},
            {out_.left.empty() ? -1 : out_.to, POLLOUT, 0},
            {err_.left.empty() ? -1 : err_.to, POLLOUT, 0},
        };
        if (has_output() && to_guest_.empty())
            polled[0].fd = -1;
        if (::poll(polled, std::size(polled), -1) < 0 && errno != EINTR)
            return fail_errno(Errc::host_error, "cannot wait for the guest");
        if (polled[3].revents != 0)
            write_out(out_);
        if (polled[4].revents != 0)
            write_out(err_);
        if (polled[2].revents != 0)
            on_signal();
        if (polled[1].revents != 0)
            read_input();
        if ((polled[0].revents & POLLOUT) != 0)
            flush_to_guest();
        if ((polled[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !has_output())
            read_guest();
        take_frames();
    }
    if (error_)
        return std::unexpected<Error>{std::move(*error_)};
    return *status_;
}

} // namespace

Result<UniqueFd> connect_exec(const std::string& socket, std::chrono::milliseconds limit) {
    const auto address = unix_address(socket);
    if (!address)
        return fail(Errc::not_found, in_quotes(socket) + " is too long for the path of a socket");
    UniqueFd guest{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (::connect(guest.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) // NOLINT: its type
        return fail_errno(Errc::not_found, "cannot connect to the guest's vsock at " + in_quotes(socket),
                          "the guest has ended, or the socket is another user's");
    TRY_VOID(shake_hands(guest.get(), limit));
    return guest;
}

Result<int> run_exec(UniqueFd guest, const ExecRequest& request, const ExecStreams& streams) {
    Session session{std::move(guest), streams, request.terminal.has_value()};
    return session.run(request);
}

} // namespace inox::guest_root
