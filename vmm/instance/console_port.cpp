// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/console_port.hpp"

#include <sys/ioctl.h>

#include "devices/virtio/console.hpp"

namespace inox {
namespace {

constexpr std::chrono::milliseconds retry_delay{10}; // a slow reader is not polled faster
constexpr std::chrono::milliseconds patience{250};   // a guest may spin while its console takes no output

} // namespace

devices::virtio::TerminalSize terminal_size(int fd) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0)
        return {};
    return {size.ws_col, size.ws_row};
}

Result<void> ConsolePort::open(const std::string& path) {
    file_.emplace(TRY(OutputFile::open(path, "the console's file")));
    return {};
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
    const auto taken = file_->offer(bytes);
    if (taken != 0 || bytes.empty()) {
        full_since_.reset();
        return taken;
    }
    const auto now = std::chrono::steady_clock::now();
    if (!full_since_)
        full_since_ = now;
    if (now - *full_since_ < patience)
        return 0;
    file_->drop(bytes.size());
    return bytes.size();
}

} // namespace inox
