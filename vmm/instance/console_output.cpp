// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/console_output.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <poll.h>
#include <unistd.h>
#include <utility>

namespace inox {
namespace {

constexpr std::chrono::milliseconds last_patience{250};
/// Each time a vCPU waits and the machine is paused, its output may stay in the backlog; what exceeds this is lost.
constexpr std::size_t most_backlog = 64 * 1024;

} // namespace

void ConsoleOutput::write(std::span<const std::byte> bytes) noexcept {
    timeline_.mark(Timeline::Step::first_serial_byte);
    std::lock_guard lock{mutex_};
    if (serial_file_)
        serial_file_->write(bytes);
    else if (backlog_.size() + bytes.size() > most_backlog)
        drop(bytes.size());
    else if (!reader_gone_)
        backlog_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()); // NOLINT: bytes are characters
    while (!backlog_.empty() && write_some()) {
    }
    copy(bytes);
}

std::size_t ConsoleOutput::offer(std::span<const std::byte> bytes) noexcept {
    const std::unique_lock lock{mutex_, std::try_to_lock};
    if (!lock) // a vCPU holds it while it waits for the reader
        return 0;
    if (expect_)
        bytes = bytes.first(std::min(bytes.size(), expect_->piece()));
    if (findings_)
        bytes = bytes.first(std::min(bytes.size(), findings_->piece()));
    std::size_t taken = reader_gone_ ? bytes.size() : 0;
    while (taken < bytes.size() && backlog_.empty()) {
        const auto written = out_.write(bytes.data() + taken, bytes.size() - taken);
        if (written >= 0) {
            note_shown(bytes.data() + taken, static_cast<std::size_t>(written));
            taken += static_cast<std::size_t>(written);
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            lose_reader(errno);
        else if (overflow_ == ConsoleOverflow::drop)
            drop(bytes.size() - taken);
        else
            break;
        taken = bytes.size();
    }
    copy(bytes.first(taken));
    return taken;
}

void ConsoleOutput::copy(std::span<const std::byte> bytes) noexcept {
    if (log_)
        log_->write(bytes);
    written_.fetch_add(bytes.size(), std::memory_order_relaxed);
    if (findings_)
        findings_->feed(bytes);
    if (rest_awaited_ && std::ranges::find(bytes, std::byte{'\n'}) != bytes.end()) {
        rest_awaited_ = false;
        on_seen_(Line::ended);
    }
    if (!expect_)
        return;
    if (expect_->feed(bytes))
        tell_seen(expect_->in_line() ? Line::unfinished : Line::ended);
    else if (!prompt_at_ && expect_->at_prompt()) {
        prompt_at_ = expect_->fed();
        on_prompt_();
    }
}

void ConsoleOutput::tell_seen(Line line) noexcept {
    expect_.reset();
    rest_awaited_ = line == Line::unfinished;
    on_seen_(line);
}

bool ConsoleOutput::prompt_stays() noexcept {
    const std::unique_lock lock{mutex_, std::try_to_lock};
    if (!lock || !gate_.open()) // a vCPU waits for the reader, or the guest is paused: more may follow
        return true;
    if (!expect_ || !expect_->at_prompt()) {
        prompt_at_.reset();
        return false;
    }
    if (std::exchange(prompt_at_, expect_->fed()) != expect_->fed())
        return true;
    tell_seen(Line::ended);
    return false;
}

bool ConsoleOutput::ends_at_prompt() noexcept {
    const std::unique_lock lock{mutex_, std::try_to_lock};
    return lock && expect_ && expect_->at_prompt();
}

bool ConsoleOutput::write_some() noexcept {
    const auto written = out_.write(backlog_.data(), backlog_.size());
    if (written >= 0) {
        note_shown(backlog_.data(), static_cast<std::size_t>(written));
        backlog_.erase(0, static_cast<std::size_t>(written));
        return true;
    }
    if (errno == EINTR)
        return gate_.open();
    if (errno != EAGAIN)
        lose_reader(errno);
    else if (overflow_ == ConsoleOverflow::wait)
        return wait_for_room();
    else
        drop(backlog_.size());
    backlog_.clear();
    return false;
}

/// Waits until there is room; false when the gate closed.
bool ConsoleOutput::wait_for_room() noexcept {
    std::array<pollfd, 2> polls{{{out_.fd(), POLLOUT, 0}, {gate_.closed_fd(), POLLIN, 0}}};
    return ::poll(polls.data(), polls.size(), -1) < 0 ? errno == EINTR && gate_.open() : polls[0].revents != 0;
}

/// After EPIPE and similar errors the guest goes on without a reader.
void ConsoleOutput::lose_reader(int error) noexcept {
    log::write(log::Level::warning, "standard output cannot be written any more (errno %d); the guest continues",
               error);
    reader_gone_ = true;
    if (error != EPIPE && error != ECONNRESET && overflow_ == ConsoleOverflow::wait)
        out_errno_ = error;
}

Result<void> ConsoleOutput::log_result() const {
    if (log_)
        TRY_VOID(log_->result());
    if (out_errno_ == 0)
        return {};
    errno = out_errno_;
    return fail_errno(Errc::output_unwritable, "standard output lacks a part of the console",
                      "free space there, or send it elsewhere; --console-overflow drop goes without");
}

void ConsoleOutput::drop(std::size_t bytes) noexcept {
    dropped_.fetch_add(bytes, std::memory_order_relaxed);
    if (told_.allow())
        log::write(log::Level::warning, "nobody reads the console's output: %llu bytes have been lost so far",
                   static_cast<unsigned long long>(dropped_.load(std::memory_order_relaxed)));
}

void ConsoleOutput::flush() noexcept {
    std::lock_guard lock{mutex_};
    if (!backlog_.empty() && out_.write_within(backlog_, last_patience))
        note_shown(backlog_.data(), backlog_.size());
    backlog_.clear();
}

void ConsoleOutput::note_shown(const void* data, std::size_t size) noexcept {
    if (size != 0)
        in_line_ = static_cast<const char*>(data)[size - 1] != '\n';
}

void ConsoleOutput::end_line() noexcept {
    std::lock_guard lock{mutex_};
    if (in_line_ && backlog_.empty() && ::isatty(out_.fd()) != 0)
        in_line_ = out_.write("\n", 1) != 1;
}

} // namespace inox
