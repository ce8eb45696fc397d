// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/console_port.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/log.hpp"

namespace vmm {
namespace {

constexpr std::chrono::milliseconds retry_delay{10}; // a reader that is slow is not polled faster

} // namespace

devices::virtio::TerminalSize terminal_size(int fd) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0)
        return {};
    return {size.ws_col, size.ws_row};
}

Result<std::unique_ptr<ConsolePort>> ConsolePort::create(const ConsoleConfig& config, EventLoop& loop,
                                                         ConsoleOutput& terminal) {
    UniqueFd file;
    // For reading too: a pipe without a reader then opens, and keeps what fits until one comes.
    if (!config.path.empty())
        file = TRY(open_file(config.path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK, Errc::output_unwritable));
    return std::unique_ptr<ConsolePort>{new ConsolePort{loop, terminal, std::move(file)}};
}

std::size_t ConsolePort::take(std::span<const std::byte> bytes) noexcept {
    const auto taken = file_ ? write_file(bytes) : terminal_.offer(bytes);
    if (taken < bytes.size())
        retry_ = loop_.after(retry_delay, [this] {
            if (device_ != nullptr)
                device_->on_output_room();
        });
    return taken;
}

std::size_t ConsolePort::write_file(std::span<const std::byte> bytes) noexcept {
    if (file_failed_)
        return bytes.size();
    const auto written = ::write(file_.get(), bytes.data(), bytes.size());
    if (written >= 0)
        return static_cast<std::size_t>(written);
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    log::write(log::Level::warning, "the console's file cannot be written (errno %d); the guest runs on", errno);
    file_failed_ = true;
    return bytes.size();
}

} // namespace vmm
