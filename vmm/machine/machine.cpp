// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/machine.hpp"

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include "devices/dsa/function.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/boot/acpi.hpp"
#include "vmm/boot/cmdline.hpp"
#include "vmm/boot/cpu_state.hpp"
#include "vmm/boot/cpuid.hpp"
#include "vmm/boot/smbios.hpp"
#include "vmm/machine/preparation.hpp"
#include "vmm/memory/generation.hpp"

namespace inox {
namespace {

using Step = Timeline::Step;

// Loads into memory what the guest's first instruction needs.
Result<boot::Loaded> load(const Config& config, const AddressMap& addresses, const GuestMemory& memory,
                          Timeline& timeline, const std::stop_token& stop) {
    boot::AcpiConfig acpi;
    acpi.cpus = config.machine.cpus;
    acpi.pci = config.machine.transport == Transport::pci;
    acpi.bars_32 = addresses.bars_32;
    acpi.bars_64 = addresses.bars_64;
    acpi.virtio_mmio = plan_virtio_mmio(config);
    if (device_of<IommuConfig>(config) != nullptr)
        acpi.iommu = static_cast<std::uint16_t>(iommu_address.index());
    acpi.pasids = has_pasids(config);
    if (boot::find_cmdline_word(config.boot.cmdline, unusable_word))
        log::write(log::Level::warning, "the word 'noapic' is removed from the kernel's command line: this machine has "
                                        "no other interrupt controller than the IO-APIC that Linux would use");
    auto loaded = TRY(load_images(config, memory, stop));
    TRY_VOID(boot::write_acpi_tables(acpi, memory));
    TRY_VOID(boot::write_smbios(config.smbios, memory));
    timeline.mark(Step::kernel_loaded);
    return loaded;
}

} // namespace

Machine::Machine(EventLoop& loop, Timeline& timeline, RunGate& gate, const Owner& owner, const AddressMap& addresses,
                 GuestMemory memory)
    : loop_{loop}, timeline_{timeline}, gate_{gate}, owner_{owner}, addresses_{addresses}, memory_{std::move(memory)} {}

Machine::~Machine() { stop(); }

Result<std::unique_ptr<Machine>> Machine::create(const Config& config, EventLoop& loop, Timeline& timeline,
                                                 RunGate& gate, const Owner& owner, const std::stop_token& stop) {
    const auto addresses = TRY(plan_memory(config));
    auto memory = TRY(create_memory(config));
    timeline.mark(Step::memory_ready);
    std::unique_ptr<Machine> machine{new Machine{loop, timeline, gate, owner, addresses, std::move(memory)}};
    TRY_VOID(machine->build(config, stop));
    return machine;
}

Result<void> Machine::build(const Config& config, const std::stop_token& stop) {
    end_on_panic_ = config.machine.end_on_panic;
    if (config.machine.panic_text)
        watch_consoles();
    Result<boot::Loaded> loaded = fail(Errc::internal, "nothing loaded");
    Result<void> built{};
    {
        auto load_here = [&] { loaded = load(config, addresses_, memory_, timeline_, stop); };
        // Creating a VM is mostly waiting, so a kernel file is read meanwhile. The hello guest is not worth a thread.
        std::jthread beside;
        if (config.boot.kernel.empty())
            load_here();
        else
            try {
                beside = std::jthread{load_here};
            } catch (const std::system_error&) {
                load_here(); // only slower; a thread that is really needed reports its failure
            }
        built = build_hardware(config);
    }
    loaded_ = TRY(std::move(loaded));
    TRY_VOID(built);
    if (!start_generation(memory_))
        log::write(log::Level::error, "the guest gets no generation id");
    Vcpu& first = vcpus_.front()->vcpu();
    auto sregs = TRY(first.sregs());
    kvm_regs regs{};
    boot::set_initial_state(loaded_.entry, sregs, regs);
    TRY_VOID(first.set_sregs(sregs));
    return first.set_regs(regs);
}

Result<void> Machine::build_hardware(const Config& config, const DevicePlaces& places) {
    TRY_VOID(look_at_assigned(config));
    auto opened = TRY(
        open_devices(config, {.loop = loop_, .memory = memory_, .console = this, .net_filters = owner_.net_filters}));
    if (!kvm_)
        kvm_ = TRY(open_kvm(config));
    vm_ = TRY(Vm::create(*kvm_, memory_));
    timeline_.mark(Step::kvm_ready);
    if (const auto* iommu = device_of<IommuConfig>(config)) {
        iommu_ = std::make_unique<iommu::Domains>(memory_, iommu->limits, boot_bypass(config));
        watch_iommu();
    }
    if (has_pasids(config))
        TRY_VOID(create_pasids(config.pasid.value_or(PasidConfig{})));
    platform_ = TRY(Platform::create(config, std::move(opened),
                                     {.ports = ports_,
                                      .mmio = mmio_,
                                      .irqs = *vm_,
                                      .doorbells = *vm_,
                                      .mappings = *vm_,
                                      .memory = memory_,
                                      .dma = dma_,
                                      .iommu = iommu_.get(),
                                      .loop = loop_,
                                      .guest = *this,
                                      .events = owner_.events,
                                      .serial = *this,
                                      .console = owner_.console,
                                      .pasids = pasids_ ? &pasids_->service() : nullptr,
                                      .add_vfio_file = [this](int file) { return vm_->add_vfio_file(file); },
                                      .windows = {.memory32 = addresses_.bars_32, .memory64 = addresses_.bars_64},
                                      .net_filters = owner_.net_filters,
                                      .places = places}));
    return create_vcpus(config);
}

void Machine::watch_iommu() {
    show_iommu(views_, iommu_.get());
    fault_watch_ = iommu_->faults().listen([this](const iommu::Faults::Entry& entry) {
        if (fault_limiter_.allow())
            loop_.post([&events = owner_.events, entry] { events.on_iommu_fault(entry); });
    });
}

/// Makes the PASIDs, and the instructions and the register with which the guest uses them.
Result<void> Machine::create_pasids(const PasidConfig& config) {
    pasids_ = TRY(Pasids::create(memory_, mmio_, config.quota));
    if (iommu_)
        pasids_->report_to(iommu_->faults());
    views_.pasids = [this](std::size_t skip, std::size_t most) { return std::optional{pasid_view(skip, most)}; };
    TRY_VOID(vm_->report_emulation_failures());
    TRY_VOID(vm_->trap_msr(iommu::msr_ia32_pasid));
    enqueue_ = std::make_unique<EnqueueEmulator>(
        memory_, mmio_,
        [&service = pasids_->service()](iommu::GuestPasid guest, const std::function<void(iommu::HostPasid)>& submit) {
            const auto submission = service.submit(guest);
            if (submission)
                submit(submission->host());
            return submission.has_value();
        });
    return {};
}

PasidView Machine::pasid_view(std::size_t skip, std::size_t most) const {
    auto view = pasids_->view(skip, most);
    const auto counts = enqueue_->counts();
    view.counters.instructions = counts.accepted + counts.retried + counts.stores;
    view.counters.exceptions = counts.faults;
    view.counters.untranslated = counts.untranslated;
    if (const auto accelerator = platform_->dsa())
        for (const auto& queue : accelerator->accelerator().queues()) {
            view.counters.submissions += queue.counts.submitted;
            view.counters.retries += queue.counts.retried;
            view.counters.refused += queue.counts.refused;
        }
    return view;
}

Result<void> Machine::create_vcpus(const Config& config) {
    const auto supported = TRY(kvm_->supported_cpuid());
    auto request = cpuid_request(config, *kvm_);
    for (unsigned id = 0; id < config.machine.cpus; ++id) {
        auto vcpu = TRY(vm_->create_vcpu(id));
        request.cpu = id;
        request.tsc_khz = vcpu->tsc_khz();
        const auto cpuid = TRY(guest_cpuid(config, supported, request));
        TRY_VOID(vcpu->set_cpuid(cpuid));
        TRY_VOID(vcpu->set_msrs(boot::initial_msrs()));
        TRY_VOID(vcpu->set_fpu(boot::initial_fpu()));
        vcpus_.push_back(std::make_unique<VcpuThread>(
            std::move(vcpu), VcpuContext{.ports = ports_,
                                         .memory = mmio_,
                                         .ram = memory_,
                                         .gate = gate_,
                                         .timeline = timeline_,
                                         .guest = *this,
                                         .on_fatal =
                                             [this](Error error) {
                                                 report_end({GuestEnd::How::failed, 0, std::move(error)});
                                             },
                                         .enqueue = enqueue_.get(),
                                         .debugger = owner_.debugger}));
    }
    return {};
}

Result<void> Machine::start(Begin how) {
    if (state_ != State::ready)
        return fail(Errc::wrong_state, "the guest was started before", "start it once");
    state_ = how == Begin::paused ? State::paused : State::running;
    if (how == Begin::paused)
        gate_.set(RunGate::State::paused);
    platform_->guest_starts();
    if (restored_) {
        // Before they run: the guest's watchdogs are not to take the time away for a lockup.
        for (auto& thread : vcpus_)
            thread->vcpu().tell_clock_stopped();
        platform_->resume();
    }
    // Made before this thread is confined, so that each has its own list only.
    all_confined_ = std::make_unique<std::latch>(static_cast<std::ptrdiff_t>(vcpus_.size()) + 1);
    std::ptrdiff_t missing = static_cast<std::ptrdiff_t>(vcpus_.size());
    Result<void> started{};
    for (auto vcpu = vcpus_.begin(); started && vcpu != vcpus_.end(); ++vcpu)
        if (started = (*vcpu)->start(*all_confined_); started)
            --missing;
    if (started) {
        const std::lock_guard lock{threads_mutex_};
        threads_ = Threads::run;
        if (pages_ && pages_->ended())
            started = std::unexpected<Error>{pages_->end_error()};
    }
    if (!started) {
        gate_.set(RunGate::State::stopping);
        all_confined_->count_down(missing + 1);
        return started;
    }
    enter_thread(ThreadKind::loop, "loop");
    all_confined_->arrive_and_wait();
    if (how == Begin::paused)
        gate_.wait_until_parked(static_cast<unsigned>(vcpus_.size()));
    schedule_stuck_check(std::chrono::seconds{1});
    return {};
}

Result<void> Machine::pause() {
    if (state_ == State::paused)
        return {};
    if (state_ != State::running)
        return fail(Errc::wrong_state, "the guest is not running", "start it first");
    if (!held_)
        park();
    state_ = State::paused;
    return {};
}

void Machine::park() {
    gate_.set(RunGate::State::paused);
    for (auto& vcpu : vcpus_)
        vcpu->kick();
    gate_.wait_until_parked(static_cast<unsigned>(vcpus_.size()));
    if (const auto accelerator = platform_->dsa())
        accelerator->accelerator().pause();
}

/// The accelerator's engines work only while all vCPUs run.
void Machine::unpark() {
    if (only_)
        return gate_.set_one(*only_);
    if (const auto accelerator = platform_->dsa())
        accelerator->accelerator().resume();
    gate_.set(RunGate::State::running);
}

Result<void> Machine::resume() {
    if (state_ == State::running)
        return {};
    if (state_ != State::paused)
        return fail(Errc::wrong_state, "the guest is not paused", "pause it first");
    state_ = State::running;
    if (!held_)
        unpark();
    return {};
}

void Machine::hold(Holder holder) {
    if (state_ == State::stopped)
        return;
    if (state_ == State::running)
        park(); // again where somebody closed the gate already
    else if (state_ == State::ready)
        gate_.set(RunGate::State::paused);
    held_ |= static_cast<std::uint8_t>(holder);
    if (state_ != State::ready)
        stop_clocks();
}

void Machine::release(Holder holder) {
    const auto before = held_;
    held_ &= static_cast<std::uint8_t>(~static_cast<unsigned>(holder));
    if (before == 0 || held_ != 0)
        return;
    start_clocks();
    if (state_ == State::running || state_ == State::ready)
        unpark();
}

void Machine::release_debugger(std::optional<unsigned> only) {
    only_ = only;
    release(Holder::debugger);
}

namespace {

constexpr std::uint32_t msr_tsc = 0x10;

/// Of a TSC of this frequency, in so many nanoseconds.
std::int64_t ticks(std::int64_t nanoseconds, std::int64_t khz) {
    constexpr std::int64_t million = 1'000'000;
    return nanoseconds / million * khz + nanoseconds % million * khz / million;
}

} // namespace

/// The thread may lose its processor between any two calls, and guests watch for clocks that drift apart: Linux gives
/// up the TSC at about 250 us.
Result<Machine::Clocks> Machine::read_clocks() const {
    constexpr std::uint64_t close = 100'000; // ns
    constexpr int most_tries = 8;
    Clocks best;
    auto narrowest = std::numeric_limits<std::uint64_t>::max();
    for (int i = 0; i < most_tries && narrowest > close; ++i) {
        const auto before = TRY(vm_->clock());
        const auto tsc = TRY(vcpus_.front()->vcpu().msr(msr_tsc));
        const auto after = TRY(vm_->clock());
        if (after - before < narrowest) {
            narrowest = after - before;
            best = {before + narrowest / 2, tsc};
        }
    }
    return best;
}

/// kvm-clock goes on from there; returns how far the TSCs have to be moved to go on, too.
Result<std::int64_t> Machine::set_clocks(const Clocks& to) {
    TRY_VOID(vm_->set_clock(to.kvm_clock));
    const auto now = TRY(read_clocks());
    const auto since = static_cast<std::int64_t>(now.kvm_clock - to.kvm_clock);
    return static_cast<std::int64_t>(to.tsc - now.tsc) + ticks(since, vcpus_.front()->vcpu().tsc_khz());
}

void Machine::stop_clocks() {
    if (stopped_clocks_)
        return;
    if (auto clocks = read_clocks())
        stopped_clocks_ = *clocks;
}

/// All TSCs are moved by the same distance, so they stay equal.
void Machine::start_clocks() {
    const auto stopped = std::exchange(stopped_clocks_, std::nullopt);
    if (!stopped)
        return;
    const auto distance = set_clocks(*stopped);
    for (auto& thread : vcpus_) {
        if (distance)
            thread->vcpu().shift_tsc(*distance);
        thread->vcpu().tell_clock_stopped(); // and KVM gives kvm-clock's page the moved TSC
    }
}

void Machine::stop() {
    stuck_timer_.reset();
    last_words_.reset();
    if (platform_)
        platform_->stop();
    gate_.set(RunGate::State::stopping);
    {
        const std::lock_guard lock{threads_mutex_};
        threads_ = Threads::gone;
    }
    for (auto& vcpu : vcpus_)
        vcpu->kick();
    exits_of_stopped_ = exit_counts();
    vcpus_.clear();
    state_ = State::stopped;
}

std::size_t Machine::serial_input(std::span<const std::byte> bytes) { return platform_->serial_input(bytes); }
void Machine::send_ctrl_alt_del() { platform_->send_ctrl_alt_del(); }
Result<void> Machine::send_nmi(std::optional<unsigned> only) {
    if (state_ != State::running)
        return fail(Errc::wrong_state, "the guest is not running", "start it, or resume it, first");
    hold(Holder::report);
    Result<void> sent{};
    for (auto& thread : vcpus_)
        if (sent && only.value_or(thread->vcpu().id()) == thread->vcpu().id())
            sent = thread->vcpu().inject_nmi();
    release(Holder::report);
    return sent;
}

std::vector<unsigned> Machine::deaf_vcpus() {
    std::vector<unsigned> out;
    for (auto& thread : vcpus_) {
        if (thread->deaf() == 1)
            out.push_back(thread->vcpu().id());
        thread->ask_deaf();
    }
    return out;
}

void Machine::press_power_button() { platform_->press_power_button(); }

std::uint64_t Machine::exits() const {
    std::uint64_t sum = 0;
    for (const auto& vcpu : vcpus_)
        sum += vcpu->exits();
    return sum;
}

void Machine::count_exits() {
    for (auto& vcpu : vcpus_)
        vcpu->count_exits();
}

std::vector<ExitCount> Machine::exit_counts() const {
    auto counts = exits_of_stopped_;
    for (const auto& vcpu : vcpus_)
        if (const auto* table = vcpu->exit_table())
            table->collect(counts);
    return counts;
}

} // namespace inox
