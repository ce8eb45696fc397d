// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/shared_output.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace inox {
namespace {

// POSIX: a writable pipe takes this much without blocking.
constexpr std::size_t never_blocks = 512;

std::atomic<const SharedOutput*> error_output{nullptr};

/// Opens the same pipe or terminal again, to have flags of its own. Needs /proc and the permission to open it.
UniqueFd open_again(int fd) {
    return UniqueFd{
        ::open(format("/proc/self/fd/%d", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)}; // NOLINT
}

} // namespace

const SharedOutput& shared_error() {
    if (const auto* const there = error_output.load(std::memory_order_acquire))
        return *there;
    static const auto* const first = new SharedOutput{STDERR_FILENO}; // a thread may write while the process ends
    const SharedOutput* none = nullptr;
    error_output.compare_exchange_strong(none, first, std::memory_order_acq_rel);
    return *error_output.load(std::memory_order_acquire);
}

void renew_shared_error() {
    error_output.store(new SharedOutput{STDERR_FILENO}, std::memory_order_release); // the old one may be in use
}

SharedOutput::SharedOutput(int fd) : fd_{fd} {
    struct stat status {};
    if (::fstat(fd, &status) != 0)
        return;
    if (S_ISSOCK(status.st_mode)) {
        way_ = Way::send;
    } else if (S_ISFIFO(status.st_mode) || ::isatty(fd) != 0) {
        own_ = open_again(fd);
        way_ = own_ ? Way::plain : Way::look_first;
    } else if (S_ISCHR(status.st_mode)) {
        way_ = Way::look_first;
    }
}

std::ptrdiff_t SharedOutput::write(const void* data, std::size_t size) const noexcept {
    if (way_ == Way::send)
        return ::send(fd_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (way_ == Way::look_first) {
        pollfd poll{fd_, POLLOUT, 0};
        if (::poll(&poll, 1, 0) != 1) {
            errno = EAGAIN;
            return -1;
        }
        size = std::min(size, never_blocks);
    }
    return ::write(fd(), data, size);
}

bool SharedOutput::write_within(std::string_view text, std::chrono::milliseconds patience) const noexcept {
    const auto end = std::chrono::steady_clock::now() + 8 * patience;
    while (!text.empty() && std::chrono::steady_clock::now() < end) {
        const auto written = write(text.data(), text.size());
        if (written >= 0) {
            text.remove_prefix(static_cast<std::size_t>(written));
            continue;
        }
        pollfd poll{fd(), POLLOUT, 0};
        if ((errno != EAGAIN && errno != EINTR) || ::poll(&poll, 1, static_cast<int>(patience.count())) == 0)
            break;
    }
    return text.empty();
}

} // namespace inox
