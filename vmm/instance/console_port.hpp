// SPDX-License-Identifier: Apache-2.0
// The host's end of the virtio console: the terminal, or a file.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>

#include "vmm/base/event_loop.hpp"
#include "vmm/config/config.hpp"
#include "vmm/instance/console_output.hpp"

namespace inox::devices::virtio {
class Console;
struct TerminalSize;
} // namespace inox::devices::virtio

namespace inox {

/// Size of the terminal on this descriptor; zeros when it is none.
devices::virtio::TerminalSize terminal_size(int fd);

/// Lives on the loop's thread.
class ConsolePort {
public:
    /// `terminal` must outlive the port; `on_terminal`: its output goes there. Else open() comes before the guest runs.
    ConsolePort(EventLoop& loop, ConsoleOutput& terminal, bool on_terminal)
        : loop_{loop}, terminal_{terminal}, on_terminal_{on_terminal} {}
    /// output_unwritable when the file cannot be opened.
    Result<void> open(const std::string& path);
    /// What the device calls (Console::Output): never waits. A pipe whose reader does not read holds the guest's
    /// console up for a quarter of a second; from then on what it does not take is dropped.
    std::size_t take(std::span<const std::byte> bytes) noexcept;
    /// Before the guest runs: who is told when there is room again.
    void connect(devices::virtio::Console& device) { device_ = &device; }
    void disconnect() { device_ = nullptr; }
    [[nodiscard]] bool on_terminal() const { return on_terminal_; }
    /// Bytes that the file lacks.
    [[nodiscard]] std::uint64_t missed() const { return file_ ? file_->missed() : 0; }

private:
    std::size_t write_file(std::span<const std::byte> bytes) noexcept;

    EventLoop& loop_;
    ConsoleOutput& terminal_;
    const bool on_terminal_;
    std::optional<OutputFile> file_;
    std::optional<std::chrono::steady_clock::time_point> full_since_; ///< the pipe took nothing from then on
    devices::virtio::Console* device_{};
    Registration retry_{};
};

} // namespace inox
