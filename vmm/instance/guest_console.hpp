// SPDX-License-Identifier: Apache-2.0
// The host's side of one machine's serial port and virtio console: the terminal, files, --expect.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "vmm/base/event_loop.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/instance/console_input.hpp"
#include "vmm/instance/console_output.hpp"
#include "vmm/instance/console_port.hpp"
#include "vmm/instance/raw_terminal.hpp"
#include "vmm/machine/machine.hpp"

namespace inox {

/// What a console tells, on the loop's thread. The receiver outlives it.
class ConsoleEvents {
public:
    virtual ~ConsoleEvents() = default;
    /// --expect has matched; told again when the rest of a line that had not ended is there, or does not come.
    virtual void on_expected(ConsoleOutput::Line line) = 0;
    /// Ctrl-A X.
    virtual void on_leave() = 0;
    /// Ctrl-A H.
    virtual void on_help() = 0;
};

/// Lives on the loop's thread, longer than the machine it serves.
class GuestConsole final : public SerialOutput, public ConsolePeer {
public:
    /// Looks at the files that the configuration names. `gate` is the machine's.
    static Result<std::unique_ptr<GuestConsole>> create(const ConfigFile& file, EventLoop& loop, RunGate& gate,
                                                        Timeline& timeline, ConsoleEvents& events);
    GuestConsole(const GuestConsole&) = delete;
    GuestConsole& operator=(const GuestConsole&) = delete;
    ~GuestConsole() override = default;

    void serial_output(std::span<const std::byte> bytes) override;
    std::size_t console_output(std::span<const std::byte> bytes) override { return port_->take(bytes); }
    void on_input_room() override;
    /// Makes and opens those files, once: when nothing else can fail any more, so that a start that fails leaves none.
    Result<void> open_outputs(const ConfigFile& file);
    /// Takes the terminal, if we are in front of it. After the machine was made, before it starts.
    void connect(Machine& machine);
    /// Begins to read the terminal, when we are in front of it. After the machine started.
    void start_input();
    /// Between two machines: what is typed waits for the next one, which connect() brings.
    void disconnect();
    /// The terminal has another size.
    void resize();
    /// The process is about to be stopped: the terminal is as it was.
    void suspend();
    /// It goes on, in front of the terminal or behind it.
    void resume();
    /// After the machine stopped: what is left goes out, the terminal is as it was.
    void finish();
    /// Bytes that the guest wrote to its serial port and to a virtio console on the terminal.
    [[nodiscard]] std::uint64_t written() const { return output_->written(); }
    /// What --fail-on found; null where it looks for nothing.
    [[nodiscard]] const Findings* findings() const { return findings_.get(); }
    void ignore_findings() noexcept {
        if (findings_)
            findings_->ignore_rest();
    }
    /// After the guest's end: its last line, unfinished as it is, is what --expect asks for.
    [[nodiscard]] bool ends_as_expected() noexcept { return output_->ends_at_prompt(); }
    /// Of --serial-log: output_unwritable when a part of it is missing.
    [[nodiscard]] Result<void> log_result() const { return output_->log_result(); }
    /// Bytes of the serial port and of the virtio console that their files and the log lack.
    [[nodiscard]] std::uint64_t missed_serial() const { return output_->missed(); }
    [[nodiscard]] std::uint64_t missed_console() const { return port_ ? port_->missed() : 0; }

private:
    GuestConsole(EventLoop& loop, ConsoleEvents& events) : loop_{loop}, events_{events} {}
    /// What is above the serial port's limit is dropped. On vCPU threads.
    [[nodiscard]] bool within_limit(std::size_t bytes) noexcept;
    /// --expect has matched. On the loop's thread.
    void on_seen(ConsoleOutput::Line line);
    /// --expect may match an unfinished line, if it stays as it is.
    void await_prompt();
    [[nodiscard]] bool on_virtio() const { return port_ && port_->on_terminal(); }

    EventLoop& loop_;
    ConsoleEvents& events_;
    std::mutex limit_mutex_;
    devices::RateLimiter limiter_{};     // guarded by limit_mutex_
    std::unique_ptr<Findings> findings_; ///< before who feeds it
    std::unique_ptr<ConsoleOutput> output_;
    std::unique_ptr<ConsolePort> port_;
    std::optional<RawTerminal> terminal_;
    std::unique_ptr<ConsoleInput> input_;
    bool opened_{false};
    Machine* machine_{};
    Registration prompt_timer_;
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};
};

} // namespace inox
