// SPDX-License-Identifier: Apache-2.0
// The one guest of this process from its configuration to its end: what the command line, a configuration file and the
// control API act on.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "devices/virtio/balloon_statistics.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/instance/core_dump.hpp"
#include "vmm/instance/event_log.hpp"
#include "vmm/instance/guest_console.hpp"
#include "vmm/instance/metrics.hpp"
#include "vmm/instance/mmds_store.hpp"
#include "vmm/instance/move/move_out.hpp"
#include "vmm/instance/move/stream.hpp"
#include "vmm/instance/snapshot/save.hpp"
#include "vmm/machine/machine.hpp"
#include "vmm/machine/run_gate.hpp"

namespace inox {

class Confinement;

/// What an instance tells its owner, on the loop's thread. The owner outlives it.
class InstanceEvents : public ConsoleEvents {
public:
    /// Once. end() is the receiver's next step.
    virtual void on_end(GuestEnd end) = 0;
    /// The guest says so.
    virtual void on_user_space_up() = 0;
    /// On another thread: see MachineEvents.
    virtual void on_stalled(const Error& why) noexcept = 0;
};

/// Everything is called on the loop's thread, or before the loop runs. A machine is made by a thread of its own, so the
/// loop answers while a start takes its time.
class Instance final : private MachineEvents {
public:
    enum class State : std::uint8_t { not_started, running, paused, ended };

    /// Who it is.
    struct Identity {
        std::string id{"anonymous-instance"};
        bool needs_kernel{false};   ///< else the built-in guest boots without one
        MetricsLine metrics_line{}; ///< how it writes its metrics; null: it writes none
    };

    Instance(EventLoop& loop, Timeline& timeline, ConfigFile file, Identity identity, InstanceEvents& owner);
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;
    ~Instance() override {
        stop();
        await_start();
    }

    [[nodiscard]] State state() const;
    [[nodiscard]] const ConfigFile& file() const { return file_; }
    [[nodiscard]] const Identity& identity() const { return identity_; }
    [[nodiscard]] const Timeline& timeline() const { return timeline_; }

    /// Before the start: applies the change unless the configuration would then break a rule it does not break now. The
    /// order of changes does not matter: what is still missing is told by start().
    Result<void> configure(const std::function<void(ConfigFile&)>& change);

    /// Makes the machine and runs it. `done` is called on the loop, perhaps before this returns; never when end() comes
    /// first. After a failure nothing is left of the machine, and the next start may succeed.
    using Started = std::move_only_function<void(Result<void>)>;
    void start(Started done);
    /// A machine is being made: not_started still, but nothing may be changed.
    [[nodiscard]] bool starting() const { return start_ != nullptr; }
    /// Runs `work` now or, when a machine is being made, once that is over; never when end() comes first.
    void after_start(std::move_only_function<void()> work);
    Result<void> pause();
    Result<void> resume();
    Result<void> send_ctrl_alt_del();
    /// Presses the guest's power button; a reboot that follows ends it, whatever a reboot does otherwise.
    Result<void> press_power_button();
    /// Ends the guest, if there is one. Writes the console's last bytes and restores the terminal. Then publishes the
    /// last event, which says why. Call it once.
    void end(const GuestEnd& why);
    /// After end(): waits for a start that was under way. That is as long as a call of the host's kernel may take, or
    /// giving back all the memory that it had filled.
    void await_start() { start_.reset(); }
    /// The end, changed to a panic when a panic came before it: see Machine::judged().
    [[nodiscard]] GuestEnd judged(GuestEnd end) const { return machine_ ? machine_->judged(std::move(end)) : end; }

    /// Writes the guest's memory and CPUs to a new file, an ELF core; the guest stands still meanwhile. `done` is
    /// called on the loop; never when end() comes first. in_use while another dump is written.
    void dump(const std::string& path, CoreDump::Done done);
    enum class SnapshotKind : std::uint8_t {
        full,
        diff, ///< what was written since the last snapshot or restore; wrong_state when there was none, unless
              ///< `existing` is replaced: then all that the guest touched
    };
    /// Saves the guest, which stands still meanwhile; see SnapshotSave. `done` is called on the loop; never when end()
    /// comes first. in_use while another snapshot or a dump is written.
    void save_snapshot(const SnapshotFiles& files, SnapshotKind kind, SnapshotSave::Existing existing,
                       SnapshotSave::Done done);
    /// Gives up the one that is being made. wrong_state when there is none.
    Result<void> cancel_snapshot();
    /// Moves the guest to the process that listens at a unix socket, or at the other end of a descriptor that keep_fds
    /// names (MoveOut). `done` is called on the loop; never when
    /// end() comes first. When it has moved, this run ends soon after; when nobody knows, it stays paused: resume()
    /// says that it does not run there.
    void move(const move::Stream& stream, std::chrono::milliseconds downtime, MoveOut::Done done);
    /// wrong_state when it is not being moved, or was handed over.
    Result<void> cancel_move();
    /// Before the start: the guest is not booted, but goes on where it was saved. configure() has its configuration.
    void use_snapshot(Restored from, Machine::Begin begin);
    /// Whether --dump-on-panic has left its file.
    [[nodiscard]] bool dumped_panic() const { return panic_dump_complete_; }
    /// Ends the guest as if it had asked for it; `what` is the sentence that says so.
    void leave(std::string what) { owner_.on_end({GuestEnd::How::stopped, 0, {}, std::move(what)}); }
    /// The same a moment later, as an operator asked for: an answer is on its way.
    void end_soon();
    /// Ends the run with this error, a moment later: an answer is on its way.
    void give_up(Error why);
    /// Before the start; it outlives the machine.
    void use_confinement(Confinement& confinement) { confinement_ = &confinement; }
    /// Null for a test's instance.
    [[nodiscard]] const Confinement* confinement() const { return confinement_; }
    /// Before the start: this file may be removed at the end, though the configuration does not name it.
    void keep_removable(std::string path);
    void use_debugger(Debugger& debugger) { debugger_ = &debugger; }
    /// Null before the start.
    [[nodiscard]] Machine* machine() const { return machine_.get(); }
    [[nodiscard]] EventLog& events() { return events_; }
    [[nodiscard]] MmdsStore& mmds() { return mmds_; }

    /// A line now, at the start and once a minute. Once: wrong_state when it goes somewhere already.
    Result<void> use_metrics(const MetricsConfig& config);
    Result<void> flush_metrics();
    [[nodiscard]] Samples samples() const;
    /// Adds to samples() until the registration dies. One at a time.
    Registration add_samples(std::function<void(Samples&)> source);

    // While the guest runs. not_found for a device that is not there.
    /// Opens the device beside the loop and shows it to the guest. `done` is called on the loop, perhaps before this
    /// returns, at the machine's end at the latest.
    void add_device(const DeviceConfig& config, Platform::Added done);
    /// Cancels the adding of a device. False when no device of this name is being added.
    bool cancel_device(const DeviceName& name) { return machine_ && machine_->cancel_device(name); }
    Result<void> remove_device(const DeviceName& name, Removal how);
    /// Another image, other limits, or both; empty: as it is. `done` as above.
    void change_drive(const std::string& id, const std::string& path, const devices::RateLimits& limits,
                      Platform::Done done);
    Result<void> change_net(const std::string& id, const devices::RateLimits& receive, const devices::RateLimits& send);
    Result<void> change_balloon(std::uint64_t target);
    Result<void> change_balloon_statistics(std::chrono::seconds interval);
    struct BalloonReport {
        std::uint64_t target; ///< bytes
        std::uint64_t actual; ///< bytes that the guest says it has given up
        devices::virtio::BalloonStatistics statistics;
    };
    /// wrong_state without statistics.
    [[nodiscard]] Result<BalloonReport> balloon_report() const;
    // Free page hinting; see devices::virtio::Balloon. wrong_state without it.
    [[nodiscard]] Result<devices::virtio::BalloonHinting> balloon_hinting() const;
    Result<void> start_balloon_hinting(bool acknowledge);
    Result<void> stop_balloon_hinting();
    /// The terminal has another size.
    void resize_console();
    /// The process is about to be stopped; it goes on. See GuestConsole.
    void suspend_console();
    void resume_console();
    /// Bytes that the guest's consoles have shown.
    [[nodiscard]] std::uint64_t console_bytes() const { return console_ ? console_->written() : 0; }
    /// Exits to user space by reason and place, of all machines so far, the most frequent first. Counts from the first
    /// call on, or from the start with --exits.
    [[nodiscard]] std::vector<ExitCount> exit_counts();
    /// Where each vCPU is: a line for each, with names if the configuration names symbols. Empty without a guest.
    [[nodiscard]] std::vector<std::string> describe_vcpus() const;
    Result<void> send_nmi(std::optional<unsigned> only = std::nullopt);
    /// See Machine; empty unless the guest runs.
    [[nodiscard]] std::vector<unsigned> deaf_vcpus();
    /// What --fail-on found so far; null where it looks for nothing.
    [[nodiscard]] const Findings* findings() const { return console_ ? console_->findings() : nullptr; }
    /// What the console shows from now on is nothing that --fail-on looks for.
    void ignore_findings() noexcept {
        if (console_)
            console_->ignore_findings();
    }
    /// After the guest's end: see GuestConsole.
    [[nodiscard]] bool ends_as_expected() noexcept { return console_ && console_->ends_as_expected(); }
    /// After end(): output_unwritable when --serial-log lacks a part.
    [[nodiscard]] Result<void> serial_log_result() const;

private:
    void stop();
    [[nodiscard]] Result<Machine*> running_machine() const;
    /// The same for changes of its devices: none while a snapshot takes their state.
    [[nodiscard]] Result<Machine*> changeable_machine() const;
    [[nodiscard]] Result<std::shared_ptr<devices::virtio::Balloon>> balloon() const;
    /// A machine that is being made.
    struct Start {
        Started done;
        std::vector<std::move_only_function<void()>> behind{}; ///< what waits for its end
        Result<std::unique_ptr<Machine>> machine = fail(Errc::internal, "nothing was made");
        std::jthread maker{}; ///< last: writes `machine`
    };
    Result<void> prepare_start();
    void make_machine(Started done);
    void on_made();
    Result<void> run_machine(Result<std::unique_ptr<Machine>> made);
    void on_started(Result<void> started, Started done);
    void on_end(GuestEnd end) override;
    void on_device(const DeviceEvent& event) override;
    void on_device_error(const DeviceName& name, const std::string& what) override;
    void on_panic(const GuestPanic& panic) override;
    void on_user_space_up() override;
    void on_stalled(const Error& why) noexcept override { owner_.on_stalled(why); }
    void on_iommu_fault(const iommu::Faults::Entry& entry) override;
    [[nodiscard]] bool dumps_first(const GuestEnd& end);
    void dump_panic();
    void start_dump(const std::string& path, CoreDump::File how, CoreDump::Done done);
    void on_dumped(const std::string& path, const Result<std::uint64_t>& bytes);
    void on_moved(const Result<MoveOut::Progress>& moved);
    void take_back();
    void on_saved(const SnapshotFiles& files, const Result<SnapshotSave::Written>& written);
    void restart_later();
    void restart();
    /// The metadata service, for an interface that it answers on; null for others.
    Result<std::shared_ptr<devices::virtio::NetFilter>> net_filter(const std::string& id);
    Result<void> check_complete() const;
    /// The disk, when it may get this image.
    [[nodiscard]] Result<std::shared_ptr<devices::virtio::Block>> changing_drive(const std::string& id,
                                                                                 const std::string& path) const;
    /// The machine, when it may get this device.
    [[nodiscard]] Result<Machine*> may_add(const DeviceConfig& config) const;
    void flush_metrics_later();

    EventLoop& loop_;
    Timeline& timeline_;
    ConfigFile file_;
    Identity identity_;
    InstanceEvents& owner_;
    Debugger* debugger_{nullptr};
    Confinement* confinement_{nullptr}; ///< null: a test's instance
    EventLog events_;
    MmdsStore mmds_;
    std::optional<MetricsFile> metrics_{};
    std::function<void(Samples&)> more_samples_{};
    Registration metrics_timer_{};
    Registration broker_watch_{};
    std::chrono::steady_clock::time_point started_at_{};
    Registration restart_timer_{};
    Registration give_up_timer_{};
    std::uint64_t restarts_{0};
    bool counts_exits_{false};
    std::vector<ExitCount> exits_before_{}; ///< of machines before a restart
    std::uint64_t last_fault_{0};           ///< its number
    bool shutting_down_{false};
    bool finished_{false}; ///< the console's last bytes are out

    // In order of dependence.
    std::unique_ptr<RunGate> gate_;
    std::unique_ptr<GuestConsole> console_;
    std::unique_ptr<Machine> machine_;
    std::unique_ptr<CoreDump> dump_;
    std::unique_ptr<SnapshotSave> save_;
    std::unique_ptr<MoveOut> move_;      ///< also when it was handed over, and nobody knows whether it runs there
    std::optional<Restored> restored_{}; ///< of a start that has not come
    Machine::Begin begin_{Machine::Begin::running};
    std::optional<snapshot::MemoryId> base_{}; ///< the snapshot that a Diff would be based on
    std::string folder_{};                     ///< where relative paths start
    std::optional<GuestEnd> end_after_dump_{};
    bool panic_dumped_{false};
    bool panic_dump_complete_{false};
    std::unique_ptr<Start> start_; ///< null: no machine is being made
};

} // namespace inox
