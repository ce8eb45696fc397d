// SPDX-License-Identifier: Apache-2.0
// A machine as state, and back.
#include <algorithm>
#include <chrono>
#include <limits>

#include "devices/virtio/block/block.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/state.hpp"
#include "vmm/kvm/vcpu_state.hpp"
#include "vmm/kvm/vm_state.hpp"
#include "vmm/machine/machine.hpp"
#include "vmm/machine/preparation.hpp"
#include "vmm/memory/generation.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

std::string vcpu_part(unsigned id) { return "vcpu" + std::to_string(id); }

void address(State& state, const char* name, Gpa& field) {
    std::uint64_t value = field.raw();
    state.number(name, value);
    field = Gpa{value};
}

void range(State& state, const char* name, Range<Gpa>& field) {
    state.part(name, [&](State& inner) {
        Gpa start = field.start();
        Gpa last = field.last();
        address(inner, "start", start);
        address(inner, "last", last);
        const auto closed = Range<Gpa>::closed(start, last);
        inner.check(closed.has_value(), "a range that ends before it begins");
        if (closed)
            field = *closed;
    });
}

/// The map of a machine is made by the host that it starts on, and the guest has read it.
void address_map_state(State& state, AddressMap& map) {
    state.version(1);
    address(state, "hole", map.hole);
    range(state, "bars_32", map.bars_32);
    bool has_64 = map.bars_64.has_value();
    state.flag("has_bars_64", has_64);
    auto bars_64 = map.bars_64.value_or(layout::pci_bars_64);
    range(state, "bars_64", bars_64);
    map.bars_64 = has_64 ? std::optional{bars_64} : std::nullopt;
    state.check(map.hole.raw() >= layout::min_ram && map.hole.raw() <= layout::ram_above_hole.raw() &&
                    map.hole.raw() % (2 * MiB) == 0,
                "memory below 4 GiB that ends where it cannot");
}

struct Place {
    DeviceName name{};
    devices::pci::Address where{};
};

void place_state(State& state, Place& place) {
    constexpr std::size_t most_name = 256;
    std::string kind{kind_name(place.name.kind)};
    state.text("kind", kind, most_name);
    state.text("id", place.name.id, most_name);
    state.number("slot", place.where.slot, std::uint8_t{0}, std::uint8_t{31});
    state.number("function", place.where.function, std::uint8_t{0}, std::uint8_t{7});
    if (!state.restores())
        return;
    const auto found = parse_kind(kind);
    state.check(found.has_value(), "a kind of device that this inox has not");
    place.name.kind = found.value_or(DeviceKind{});
}

constexpr std::size_t most_places = 256;

/// The guest takes interrupts of this pin of the IO-APIC.
bool listens(const VmState& vm, unsigned gsi) {
    constexpr std::uint64_t masked = 1U << 16;
    return (vm.chips[KVM_IRQCHIP_IOAPIC].chip.ioapic.redirtbl[gsi].bits & masked) == 0;
}

/// CPUID of the first vCPU as this host would give it, to compare with the saved one.
Result<void> check_cpu(const VcpuState& saved, const Config& config, const Kvm& kvm, std::uint32_t tsc_khz) {
    auto request = cpuid_request(config, kvm);
    request.tsc_khz = tsc_khz;
    auto supported = TRY(kvm.supported_cpuid());
    const auto offered = TRY(guest_cpuid(config, std::move(supported), request));
    const auto missing = missing_cpuid(saved.cpuid, offered);
    if (missing.empty())
        return {};
    std::string what = "this host's CPU lacks what the guest was saved with: " + missing.front();
    for (std::size_t i = 1; i < missing.size(); ++i)
        what += ", " + missing[i];
    return fail(Errc::snapshot_mismatch, std::move(what),
                "restore on a host with the same CPU, or save a guest that was started with fewer features "
                "(cpu-config)");
}

} // namespace

Result<void> Machine::saveable() const {
    auto why = platform_->unsaveable();
    if (!why && pasids_)
        why = pasids_->state().unsaveable();
    if (why)
        return fail(Errc::unsaveable, "this machine cannot be saved: " + *why, "docs/snapshot.md says what can");
    if (!platform_->table().at_rest())
        return fail(Errc::wrong_state, "a device is on its way, or the guest has not ejected one",
                    "wait until `inox ctl devices` shows none that is ejecting");
    return {};
}

Result<void> Machine::lock_images(bool on) {
    for (const auto& device : platform_->table().list())
        if (const auto block = disk(device.name.id); block && kind_name(device.name.kind) == "disk")
            TRY_VOID(block->lock_image(on));
    return {};
}

Result<void> Machine::track_writes(bool on) {
    memory_.dirty().track(on);
    return vm_->log_writes(on);
}

/// Devices first: what they drained may have raised interrupts, which then are in KVM's part.
Result<void> Machine::save(snapshot::Parts& parts) {
    parts.save("map", [&](inox::State& state) { address_map_state(state, addresses_); });
    parts.save("places", [&](inox::State& state) {
        std::vector<Place> places;
        for (const auto& device : platform_->table().list())
            if (device.address)
                places.push_back({device.name, *device.address});
        state.list("list", places, most_places, place_state);
    });
    if (pasids_)
        parts.save("pasids", [&](inox::State& state) { pasids_->state().state(state); });
    parts.save("devices", [&](inox::State& state) { platform_->state(state); });
    const auto msrs = TRY(kvm_->state_msrs());
    for (auto& thread : vcpus_) {
        auto cpu = TRY(thread->vcpu().save(msrs));
        cpu.ia32_pasid = thread->pasid_register();
        parts.save(vcpu_part(thread->vcpu().id()), [&](inox::State& state) { cpu.state(state); });
    }
    auto vm = TRY(vm_->save());
    // As they were when the guest was stopped: it sees nothing of the time that this took.
    const auto clocks = stopped_clocks_ ? *stopped_clocks_ : TRY(read_clocks());
    vm.wall -= vm.clock - std::min(vm.clock, clocks.kvm_clock);
    vm.clock = clocks.kvm_clock;
    vm.tsc = clocks.tsc;
    parts.save("vm", [&](inox::State& state) { vm.state(state); });
    return {};
}

Result<void> Machine::prepare_clones(const Config& config, Restored& from) {
    auto addresses = TRY(plan_memory(config));
    TRY_VOID(from.parts->restore("map", [&](inox::State& state) { address_map_state(state, addresses); }));
    if (maps_image(config)) {
        from.memory = TRY(restore_memory(config, addresses.hole, std::move(from.image)));
        from.memory->inherit();
    }
    from.kvm = TRY(open_kvm(config));
    return from.kvm->remember();
}

Result<std::unique_ptr<Machine>> Machine::restore(const Config& config, EventLoop& loop, Timeline& timeline,
                                                  RunGate& gate, const Owner& owner, Restored from) {
    auto addresses = TRY(plan_memory(config));
    const auto here = addresses;
    TRY_VOID(from.parts->restore("map", [&](inox::State& state) { address_map_state(state, addresses); }));
    if (addresses.bars_64 && addresses.bars_64->last().raw() >> host_address_bits() != 0)
        return fail(Errc::snapshot_mismatch,
                    format("the guest's devices lie at addresses up to %#llx, which this host's CPU does not reach",
                           hex(addresses.bars_64->last())),
                    "restore on a host with the same CPU, or give the guest a smaller --pci-window-64");
    if (here.hole != addresses.hole || here.bars_32 != addresses.bars_32)
        return fail(Errc::snapshot_invalid, "the snapshot's memory map is not that of its configuration");
    DevicePlaces places;
    TRY_VOID(from.parts->restore("places", [&](inox::State& state) {
        std::vector<Place> list;
        state.list("list", list, most_places, place_state);
        for (auto& one : list)
            places.emplace_back(std::move(one.name), one.where);
    }));
    auto memory =
        from.memory
            ? std::move(*from.memory)
            : TRY(from.page_server.empty()
                      ? restore_memory(config, addresses.hole, std::move(from.image))
                      : GuestMemory::awaiting(config.machine.memory, config.machine.huge_pages, addresses.hole));
    timeline.mark(Timeline::Step::memory_ready);
    std::unique_ptr<Machine> machine{new Machine{loop, timeline, gate, owner, addresses, std::move(memory)}};
    machine->end_on_panic_ = config.machine.end_on_panic;
    machine->restored_ = true;
    machine->kvm_ = std::move(from.kvm);
    if (config.machine.panic_text)
        machine->watch_consoles();
    if (!from.page_server.empty())
        TRY_VOID(machine->await_pages(from));
    TRY_VOID(machine->build_hardware(config, places));
    VcpuState first;
    TRY_VOID(from.parts->restore(vcpu_part(0), [&](inox::State& state) { first.state(state); }));
    TRY_VOID(check_cpu(first, config, *machine->kvm_, machine->vcpus_.front()->vcpu().tsc_khz()));
    TRY_VOID(machine->put_back(from));
    if (machine->pages_ && machine->pages_->ended())
        return std::unexpected<Error>{machine->pages_->end_error()};
    if (from.before_run)
        TRY_VOID(from.before_run());
    return machine;
}

/// The first page that it brings tells whether the memory is that of the state.
Result<void> Machine::await_pages(const Restored& from) {
    pages_ = TRY(PageServer::hand_over(from.page_server, memory_, [this] { return on_pages_end(); }));
    const auto id = memory_.read<snapshot::MemoryId>(layout::snapshot_id);
    if (pages_->ended())
        return std::unexpected<Error>{pages_->end_error()};
    if (id != from.memory_id)
        return fail(Errc::snapshot_invalid, "the page server brings another snapshot's memory than that of the state",
                    "let it serve the memory file beside the state file");
    return {};
}

/// The loop may wait for a page itself, and so never hear of it: on_stalled() sees to the process's end then.
PageServer::AtEnd Machine::on_pages_end() noexcept {
    const std::lock_guard lock{threads_mutex_};
    if (threads_ == Threads::none)
        return PageServer::AtEnd::release; // the start fails
    if (threads_ == Threads::run) {
        report_end({GuestEnd::How::failed, 0, pages_->end_error()});
        for (auto& vcpu : vcpus_)
            vcpu->kick();
        owner_.events.on_stalled(pages_->end_error());
    }
    return PageServer::AtEnd::abandon;
}

/// vCPUs with their local APICs, then the interrupt chips, which inject into those, then the clock, then devices.
Result<void> Machine::put_back(const Restored& from) {
    TRY_VOID(restore_vcpus(*from.parts));
    VmState vm;
    TRY_VOID(from.parts->restore("vm", [&](inox::State& state) { vm.state(state); }));
    if (from.clock == RestoredClock::real_time) {
        const auto now = static_cast<std::uint64_t>(
            std::chrono::nanoseconds{std::chrono::system_clock::now().time_since_epoch()}.count());
        vm.clock += now > vm.wall ? now - vm.wall : 0; // a clock never goes back
    }
    TRY_VOID(vm_->restore(vm));
    TRY_VOID(restore_clocks({vm.clock, vm.tsc}));
    if (pasids_) // before the accelerator, whose queues open theirs
        TRY_VOID(from.parts->restore("pasids", [&](inox::State& state) { pasids_->state().state(state); }));
    TRY_VOID(from.parts->restore("devices", [&](inox::State& state) { platform_->state(state); }));
    if (!(from.moved ? disrupt_clock(memory_) : renew_generation(memory_)))
        log::write(log::Level::error, "the guest cannot be told that its time has %s",
                   from.moved ? "jumped" : "forked");
    // A guest that does not listen reads the new values when its drivers start; an interrupt would reach it through
    // PICs that it has not set up.
    if (listens(vm, layout::gsi_ged))
        platform_->tell_new_time(!from.moved);
    return {};
}

Result<void> Machine::restore_vcpus(const snapshot::Parts& parts) {
    for (auto& thread : vcpus_) {
        VcpuState cpu;
        TRY_VOID(parts.restore(vcpu_part(thread->vcpu().id()), [&](inox::State& state) { cpu.state(state); }));
        TRY_VOID(thread->vcpu().restore(cpu));
        thread->set_pasid_register(cpu.ia32_pasid);
    }
    return {};
}

/// Each vCPU's TSC was read, and is set, at another moment. With different offsets KVM gives up its master clock, and
/// the guest may see time run backwards between CPUs.
Result<void> Machine::restore_clocks(const Clocks& saved) {
    Vcpu& first = vcpus_.front()->vcpu();
    first.shift_tsc(TRY(set_clocks(saved)));
    const auto offset = first.tsc_offset();
    for (std::size_t i = 1; offset && i < vcpus_.size(); ++i)
        vcpus_[i]->vcpu().set_tsc_offset(*offset);
    return {};
}

} // namespace inox
