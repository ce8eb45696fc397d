// SPDX-License-Identifier: Apache-2.0
// The one guest of this process from its configuration to its end: what the command line, a configuration file and the
// control API act on.
#pragma once

#include <functional>
#include <memory>

#include "vmm/base/event_loop.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/machine/config_file.hpp"
#include "vmm/machine/event_log.hpp"
#include "vmm/machine/guest_console.hpp"
#include "vmm/machine/machine.hpp"
#include "vmm/machine/run_gate.hpp"

namespace vmm {

/// Everything is called on the loop's thread, or before the loop runs.
class Instance {
public:
    enum class State : std::uint8_t { not_started, running, paused, ended };

    struct Hooks {
        /// Once, on the loop. stop() is the caller's next step.
        std::function<void(GuestEnd)> on_end;
        std::function<void()> on_expected; ///< --expect has matched
        std::function<void()> on_leave;    ///< Ctrl-A X
    };

    Instance(EventLoop& loop, Timeline& timeline, ConfigFile file, Hooks hooks);
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;
    ~Instance() { stop(); }

    [[nodiscard]] State state() const;
    /// "Not started", "Running", "Paused" or "Ended".
    [[nodiscard]] std::string_view state_text() const;
    [[nodiscard]] const ConfigFile& file() const { return file_; }

    /// Makes the machine and runs it. After a failure nothing is left of the machine, and the next start may succeed.
    Result<void> start();
    Result<void> pause();
    Result<void> resume();
    Result<void> send_ctrl_alt_del();
    /// Ends the guest; the console's last bytes go out and the terminal is restored. Safe in any state, also twice.
    void stop();

    /// Null before the start.
    [[nodiscard]] Machine* machine() const { return machine_.get(); }
    [[nodiscard]] EventLog& events() { return events_; }
    /// The terminal has another size.
    void resize_console();

private:
    [[nodiscard]] Result<Machine*> running_machine() const;
    Result<void> make_machine();

    EventLoop& loop_;
    Timeline& timeline_;
    ConfigFile file_;
    Hooks hooks_;
    EventLog events_;

    // In order of dependence.
    std::unique_ptr<RunGate> gate_;
    std::unique_ptr<GuestConsole> console_;
    std::unique_ptr<Machine> machine_;
};

} // namespace vmm
