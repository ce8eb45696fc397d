// SPDX-License-Identifier: Apache-2.0
// One guest: owns memory, KVM objects, devices and threads, and joins them. The composition root.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "devices/guest_events.hpp"
#include "iommu/domains.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/boot/loader.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/config/config.hpp"
#include "vmm/kvm/vm.hpp"
#include "vmm/machine/debugger.hpp"
#include "vmm/machine/enqueue_emulator.hpp"
#include "vmm/machine/machine_events.hpp"
#include "vmm/machine/machine_views.hpp"
#include "vmm/machine/panic_text.hpp"
#include "vmm/machine/pasids.hpp"
#include "vmm/machine/platform.hpp"
#include "vmm/machine/run_gate.hpp"
#include "vmm/machine/vcpu_thread.hpp"
#include "vmm/memory/address_map.hpp"
#include "vmm/memory/page_server.hpp"
#include "vmm/snapshot/memory_file.hpp"
#include "vmm/snapshot/parts.hpp"

namespace inox {

/// What becomes of the guest's clocks in the time between a save and a restore.
enum class RestoredClock : std::uint8_t {
    goes_on,   ///< they go on as if there had been none: no jump, and a real time that is late
    real_time, ///< kvm-clock jumps ahead by it
};

/// A machine that was saved.
struct Restored {
    std::shared_ptr<const snapshot::Parts> parts;
    UniqueFd image; ///< the memory file: it must not change as long as the machine lives; none with a page server
    RestoredClock clock{RestoredClock::goes_on};
    std::optional<GuestMemory> memory{}; ///< in place of the image
    bool moved{false};                   ///< it was moved, not copied: its generation id stays
    /// Called when all is in place, on the thread that makes the machine: the guest runs only if this succeeds.
    std::move_only_function<Result<void>()> before_run{};
    std::string page_server{};      ///< socket of the process that brings the memory; empty: none
    snapshot::MemoryId memory_id{}; ///< of what it brings
    std::optional<Kvm> kvm{};       ///< of a clone: opened before its process was made
};

/// Everything is called on the loop's thread unless it says otherwise.
class Machine final : private devices::GuestEvents, private SerialOutput, private ConsolePeer {
public:
    enum class State : std::uint8_t { ready, running, paused, stopped };

    /// They outlive the machine, and what it has posted to the loop.
    struct Owner {
        MachineEvents& events;
        SerialOutput& serial;
        ConsolePeer& console;
        NetFilters net_filters{};    ///< empty: none
        Debugger* debugger{nullptr}; ///< null: none
    };

    /// Builds the machine with its kernel loaded; nothing runs yet. `gate` closes while vCPUs must not run. On the
    /// loop's thread or EventLoop::Apart; a kernel of any size is given up soon once `stop` asks for it (wrong_state).
    static Result<std::unique_ptr<Machine>> create(const Config& config, EventLoop& loop, Timeline& timeline,
                                                   RunGate& gate, const Owner& owner, const std::stop_token& stop);
    /// The same of a machine that was saved: it goes on where that one was. `config` is the saved one, perhaps with
    /// other names of the host. snapshot_invalid, snapshot_mismatch, and the errors of a start.
    static Result<std::unique_ptr<Machine>> restore(const Config& config, EventLoop& loop, Timeline& timeline,
                                                    RunGate& gate, const Owner& owner, Restored from);
    /// What many restores of it can share, for processes that are forked later: /dev/kvm is open, and the image is
    /// mapped where it can be. The errors of restore().
    static Result<void> prepare_clones(const Config& config, Restored& from);
    ~Machine() override;

    enum class Begin : std::uint8_t { running, paused };
    Result<void> start(Begin how = Begin::running);
    /// Returns once no vCPU is in the guest or in a device.
    Result<void> pause();
    Result<void> resume();
    enum class Holder : std::uint8_t { debugger = 1, dump = 2, report = 4, snapshot = 8 };
    /// No vCPU runs until each holder has released it, whatever pause() and resume() do meanwhile, and the guest's
    /// clocks stand still. Returns once no vCPU is in the guest or in a device. Safe in any state, also twice.
    void hold(Holder holder);
    void release(Holder holder);
    /// The debugger's release: only this vCPU runs then, the others wait on; nullopt: all run.
    void release_debugger(std::optional<unsigned> only);
    /// Any thread: no vCPU enters the guest any more. hold() has to follow on the loop.
    void close_gate() noexcept { gate_.set(RunGate::State::paused); }
    /// Ends and joins the vCPU threads. Safe in any state, also twice.
    void stop();

    // A snapshot, while Holder::snapshot holds the machine.
    /// unsaveable, naming what cannot be saved; wrong_state while a device comes or leaves. In any state.
    [[nodiscard]] Result<void> saveable() const;
    /// Devices take up no more work. True once guest memory and their state stay as they are; ask again until then.
    [[nodiscard]] bool drain() noexcept { return platform_->drain(); }
    /// Gives up the locks on disks' images, for another process to take them over; or takes them again (in_use).
    Result<void> lock_images(bool on);
    /// After drain(), when it was true.
    Result<void> save(snapshot::Parts& parts);
    /// From now on memory().dirty() notes what is written, or not any more; it keeps what it has.
    Result<void> track_writes(bool on);
    /// The pages that were written since the last clear of memory().dirty(): adds what KVM knows. While it is tracked.
    Result<void> collect_writes() { return vm_->collect_writes(memory_.dirty()); }
    /// Devices go on; before the machine is released.
    void undrain() noexcept { platform_->resume(); }
    [[nodiscard]] State state() const { return state_; }

    /// Returns how many bytes the serial port took.
    std::size_t serial_input(std::span<const std::byte> bytes);
    /// The guest sees Ctrl-Alt-Del on its keyboard.
    void send_ctrl_alt_del();
    /// Every vCPU, or only this one, gets a non-maskable interrupt, also if it takes no others.
    Result<void> send_nmi(std::optional<unsigned> only = std::nullopt);
    /// Which vCPUs took no interrupt when they were asked last, though one waited; then asks again, for the next call.
    [[nodiscard]] std::vector<unsigned> deaf_vcpus();
    /// The guest sees a press of its ACPI power button.
    void press_power_button();
    /// The end of a guest in the light of a panic before it: guest_panic, unless its kernel ended in order after that.
    /// Any thread.
    [[nodiscard]] GuestEnd judged(GuestEnd end) const;
    /// Null without a virtio console.
    [[nodiscard]] devices::virtio::Console* console() const { return platform_->console(); }

    /// Adds a device; the guest is told when it runs. See DeviceTable for errors, Platform for the rest.
    void add_device(const DeviceConfig& config, Platform::Added done) { platform_->add_later(config, std::move(done)); }
    void replace_image(std::shared_ptr<devices::virtio::Block> disk, const std::string& path, Platform::Done done) {
        platform_->replace_image(std::move(disk), path, std::move(done));
    }
    /// An assigned device that is not there yet does not come any more. False: there is none.
    bool cancel_device(const DeviceName& name) { return platform_->cancel(name); }
    /// MachineEvents::on_device tells when it is gone.
    Result<void> remove_device(const DeviceName& name, Removal how) { return platform_->table().remove(name, how); }
    /// A device that was asked for, or another image of a disk, is on its way.
    [[nodiscard]] bool changing() const { return platform_->changing(); }
    [[nodiscard]] const DeviceTable& devices() const { return platform_->table(); }
    // For changes while they run; null when there is no such device.
    [[nodiscard]] std::shared_ptr<devices::virtio::Block> disk(const std::string& id) const {
        return platform_->disk(id);
    }
    [[nodiscard]] std::shared_ptr<devices::virtio::Net> net(const std::string& id) const { return platform_->net(id); }
    [[nodiscard]] std::shared_ptr<devices::virtio::Balloon> balloon() const { return platform_->balloon(); }

    /// Null without an IOMMU. Its own calls are from any thread.
    [[nodiscard]] const iommu::Domains* iommu() const { return iommu_.get(); }

    /// What operators see; filled by the parts of the machine.
    [[nodiscard]] const MachineViews& views() const { return views_; }
    /// For a debugger, while it holds the machine.
    [[nodiscard]] Vcpu& vcpu(unsigned id) { return vcpus_[id]->vcpu(); }
    [[nodiscard]] unsigned vcpu_count() const { return static_cast<unsigned>(vcpus_.size()); }
    [[nodiscard]] const GuestMemory& memory() const { return memory_; }
    /// MSI routes in force.
    [[nodiscard]] std::vector<IrqRouter::Route> interrupt_routes() const { return vm_->router().routes(); }
    [[nodiscard]] const boot::Loaded& loaded() const { return loaded_; }
    // For display; null without them. Their snapshots may be taken on any thread.
    [[nodiscard]] iommu::PasidService* pasids() const { return pasids_ ? &pasids_->service() : nullptr; }
    [[nodiscard]] const EnqueueEmulator* enqueue() const { return enqueue_.get(); }
    [[nodiscard]] std::shared_ptr<devices::dsa::DsaFunction> dsa() const { return platform_->dsa(); }
    /// Exits to user space of all vCPUs so far. Any thread.
    [[nodiscard]] std::uint64_t exits() const;
    /// From now on exits are counted by reason and place: once for all.
    void count_exits();
    /// What was counted, also after stop(), not merged; empty when nothing is counted.
    [[nodiscard]] std::vector<ExitCount> exit_counts() const;
    /// Accesses to ports and addresses where no device is, so far. Any thread.
    [[nodiscard]] std::uint64_t unclaimed_accesses() const { return ports_.unclaimed() + mmio_.unclaimed(); }

private:
    Machine(EventLoop& loop, Timeline& timeline, RunGate& gate, const Owner& owner, const AddressMap& addresses,
            GuestMemory memory);
    Result<void> build(const Config& config, const std::stop_token& stop);
    Result<void> build_hardware(const Config& config, const DevicePlaces& places = {});
    Result<void> await_pages(const Restored& from);
    PageServer::AtEnd on_pages_end() noexcept; // on the page server's thread
    Result<void> put_back(const Restored& from);
    Result<void> restore_vcpus(const snapshot::Parts& parts);
    void watch_iommu();
    void park();
    void unpark();
    struct Clocks;
    [[nodiscard]] Result<Clocks> read_clocks() const;
    Result<std::int64_t> set_clocks(const Clocks& to);
    Result<void> restore_clocks(const Clocks& saved);
    void stop_clocks();
    void start_clocks();
    Result<void> create_pasids(const PasidConfig& config);
    [[nodiscard]] PasidView pasid_view(std::size_t skip, std::size_t most) const;
    Result<void> create_vcpus(const Config& config);

    // devices::GuestEvents, on vCPU threads.
    void power_off() noexcept override;
    void reset() noexcept override;
    void exit(std::uint8_t code) noexcept override;
    void user_space_up() noexcept override;
    void root_failed(std::string_view text) noexcept override;
    void panicked(bool crash_kernel) noexcept override;

    // What both consoles print passes by on its way out, whatever becomes of it there.
    void serial_output(std::span<const std::byte> bytes) override;
    std::size_t console_output(std::span<const std::byte> bytes) override;
    void on_input_room() override { owner_.console.on_input_room(); }

    void watch_consoles();
    void await_last_words(std::uint64_t exits_before, std::chrono::milliseconds patience);
    void report_end(GuestEnd end) noexcept; // any thread; the first report counts
    void schedule_stuck_check(std::chrono::milliseconds delay);
    void ask_stuck(std::chrono::milliseconds waited, bool silent);
    void check_stuck(std::chrono::milliseconds waited, bool silent);

    EventLoop& loop_;
    Timeline& timeline_;
    RunGate& gate_;
    const Owner owner_;
    State state_{State::ready};
    std::uint8_t held_{0};           ///< of Holder
    std::optional<unsigned> only_{}; ///< runs alone, for a debugger
    /// Of one moment.
    struct Clocks {
        std::uint64_t kvm_clock{}; ///< nanoseconds
        std::uint64_t tsc{};       ///< of the first vCPU
    };
    std::optional<Clocks> stopped_clocks_{}; ///< while they stand still
    std::atomic<bool> ended_{false};
    bool restored_{false}; ///< it goes on where another machine was
    enum class Threads : std::uint8_t { none, run, gone };
    std::mutex threads_mutex_;
    Threads threads_{Threads::none}; ///< whether there are vCPUs' threads, which do not come or go under this lock
    bool end_on_panic_{false};
    std::atomic<bool> panicked_{false};
    std::atomic<bool> crash_kernel_{false};
    std::atomic<bool> user_space_told_{false};
    std::unique_ptr<PanicText> panic_text_; // null: not looked for
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};
    Registration last_words_;
    MachineViews views_;

    // In order of dependence: destruction runs from the bottom up.
    AddressMap addresses_;
    GuestMemory memory_;
    std::unique_ptr<PageServer> pages_; // null: the memory is all here
    DirectMemory dma_{memory_};
    std::unique_ptr<iommu::Domains> iommu_;
    log::Throttle fault_limiter_{5};
    Registration fault_watch_;
    std::optional<Kvm> kvm_; // empty until the operator's devices are open
    std::unique_ptr<Vm> vm_;
    PortBus ports_;
    MemoryBus mmio_;
    std::unique_ptr<Pasids> pasids_; // null without any
    std::unique_ptr<Platform> platform_;
    std::unique_ptr<EnqueueEmulator> enqueue_; // null without PASIDs
    boot::Loaded loaded_;
    Registration stuck_timer_;
    std::uint64_t exits_at_last_check_{0};
    std::vector<ExitCount> exits_of_stopped_{};      ///< what vCPUs that are gone counted
    std::unique_ptr<std::latch> all_confined_;       ///< the guest runs when every thread of it has its list
    std::vector<std::unique_ptr<VcpuThread>> vcpus_; // last: threads end before anything they use
};

} // namespace inox
