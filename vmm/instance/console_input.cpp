// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/console_input.hpp"

#include <array>
#include <cerrno>
#include <span>
#include <sys/epoll.h>
#include <unistd.h>

namespace inox {
namespace {

constexpr char escape_key = 'A' - 0x40; // Ctrl-A
constexpr std::size_t read_size = 256;
/// A shell does not notify a job that already runs when it brings the job to the foreground, so inox looks.
constexpr std::chrono::milliseconds background_look{250};

} // namespace

ConsoleInput::ConsoleInput(EventLoop& loop, int fd, RawTerminal& terminal, Guest guest)
    : loop_{loop}, fd_{fd}, terminal_{terminal}, guest_{std::move(guest)} {}

// The loop makes what it watches non-blocking. Standard input is shared with the shell that started us, so the loop
// gets an epoll descriptor in front of it instead.
Result<Registration> ConsoleInput::watch_shared() {
    if (!ready_) {
        UniqueFd ready{::epoll_create1(EPOLL_CLOEXEC)};
        epoll_event event{};
        event.events = EPOLLIN;
        if (!ready || ::epoll_ctl(ready.get(), EPOLL_CTL_ADD, fd_, &event) != 0)
            return fail_errno(Errc::host_error, "cannot watch standard input");
        ready_ = std::move(ready);
    }
    return loop_.watch(ready_.get(), [this] { on_readable(); });
}

void ConsoleInput::watch() {
    if (ended_ || watching_ || !pending_.empty())
        return;
    if (!terminal_.take()) {
        later_ = loop_.after(background_look, [this] { watch(); });
        return;
    }
    if (pollable_) {
        if (auto watch = watch_shared()) {
            watch_ = std::move(*watch);
            watching_ = true;
            return;
        }
        pollable_ = false; // a regular file: always readable
    }
    loop_.post([this] { on_readable(); });
}

void ConsoleInput::unwatch() {
    watching_ = false;
    watch_.reset();
}

void ConsoleInput::look_again() {
    if (!terminal_.is_terminal())
        return;
    unwatch();
    watch();
}

void ConsoleInput::on_readable() {
    if (!terminal_.take())
        return look_again();
    std::array<char, read_size> buffer{};
    const auto got = ::read(fd_, buffer.data(), buffer.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got < 0 && errno == EIO && ::isatty(fd_) != 0) { // another process group took the terminal meanwhile
        unwatch();
        later_ = loop_.after(background_look, [this] { watch(); });
        return;
    }
    if (got <= 0) {
        ended_ = true;
        return unwatch();
    }
    take(std::span{buffer}.first(static_cast<std::size_t>(got)));
    deliver();
}

void ConsoleInput::take(std::span<const char> typed) {
    for (const char key : typed) {
        if (terminal_.is_terminal() && escape_) {
            escape_ = false;
            if (key == 'x' || key == 'X') {
                guest_.leave();
                return;
            }
            if (key == 'h' || key == 'H' || key == '?')
                guest_.help();
            else
                pending_ += key == 'a' || key == 'A' ? escape_key : key; // also for Ctrl-A twice; others go as they are
        } else if (terminal_.is_terminal() && key == escape_key) {
            escape_ = true;
        } else {
            pending_ += key;
        }
    }
}

void ConsoleInput::deliver() {
    const auto taken = guest_.receive(std::as_bytes(std::span{pending_}));
    pending_.erase(0, taken);
    if (!pending_.empty())
        unwatch();
    if (pending_.empty())
        watch();
}

void ConsoleInput::on_room() {
    if (!pending_.empty())
        deliver();
}

} // namespace inox
