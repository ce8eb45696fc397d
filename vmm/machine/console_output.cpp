// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/console_output.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <poll.h>
#include <unistd.h>

#include "vmm/base/log.hpp"

namespace vmm {
namespace {

// POSIX: a writable pipe takes this much without blocking.
constexpr std::size_t never_blocks = 512;

} // namespace

void ConsoleOutput::write(std::span<const std::byte> bytes) noexcept {
    timeline_.mark(Timeline::Step::first_serial_byte);
    std::lock_guard lock{mutex_};
    if (serial_file_)
        serial_file_->write(bytes);
    else if (!reader_gone_)
        backlog_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()); // NOLINT: bytes are characters
    while (!backlog_.empty() && write_some()) {
    }
    copy(bytes);
}

std::size_t ConsoleOutput::offer(std::span<const std::byte> bytes) noexcept {
    const std::unique_lock lock{mutex_, std::try_to_lock};
    if (!lock) // a vCPU waits for the reader
        return 0;
    std::size_t taken = reader_gone_ ? bytes.size() : 0;
    while (taken < bytes.size()) {
        pollfd poll{fd_, POLLOUT, 0};
        if (!backlog_.empty() || ::poll(&poll, 1, 0) != 1)
            break;
        const auto written = ::write(fd_, bytes.data() + taken, std::min(bytes.size() - taken, never_blocks));
        if (written < 0)
            break;
        note_shown(bytes.data() + taken, static_cast<std::size_t>(written));
        taken += static_cast<std::size_t>(written);
    }
    copy(bytes.first(taken));
    return taken;
}

void ConsoleOutput::copy(std::span<const std::byte> bytes) noexcept {
    if (log_)
        log_->write(bytes);
    if (expect_ && expect_->feed(bytes)) {
        expect_.reset();
        on_seen_();
    }
}

bool ConsoleOutput::write_some() noexcept {
    std::array<pollfd, 2> polls{{{fd_, POLLOUT, 0}, {gate_.closed_fd(), POLLIN, 0}}};
    if (::poll(polls.data(), polls.size(), -1) < 0)
        return errno == EINTR && gate_.open();
    if (polls[0].revents == 0)
        return false;
    const auto written = ::write(fd_, backlog_.data(), std::min(backlog_.size(), never_blocks));
    if (written >= 0) {
        note_shown(std::as_bytes(std::span{backlog_}).data(), static_cast<std::size_t>(written));
        backlog_.erase(0, static_cast<std::size_t>(written));
        return true;
    }
    if (errno == EINTR || errno == EAGAIN)
        return gate_.open();
    // EPIPE and the like: the guest goes on without a reader.
    log::write(log::Level::warning, "console output is gone (errno %d); the guest runs on", errno);
    reader_gone_ = true;
    backlog_.clear();
    return false;
}

void ConsoleOutput::flush() noexcept {
    std::lock_guard lock{mutex_};
    while (!backlog_.empty()) {
        pollfd poll{fd_, POLLOUT, 0};
        if (::poll(&poll, 1, 250) != 1)
            return;
        const auto written = ::write(fd_, backlog_.data(), std::min(backlog_.size(), never_blocks));
        if (written < 0)
            return;
        note_shown(std::as_bytes(std::span{backlog_}).data(), static_cast<std::size_t>(written));
        backlog_.erase(0, static_cast<std::size_t>(written));
    }
}

void ConsoleOutput::note_shown(const std::byte* data, std::size_t size) noexcept {
    if (size != 0)
        in_line_ = data[size - 1] != std::byte{'\n'};
}

void ConsoleOutput::end_line() noexcept {
    std::lock_guard lock{mutex_};
    pollfd poll{fd_, POLLOUT, 0};
    if (in_line_ && backlog_.empty() && ::isatty(fd_) != 0 && ::poll(&poll, 1, 0) == 1)
        in_line_ = ::write(fd_, "\n", 1) != 1;
}

} // namespace vmm
