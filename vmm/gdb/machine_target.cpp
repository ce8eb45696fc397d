// SPDX-License-Identifier: Apache-2.0
#include "vmm/gdb/machine_target.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/base/hex.hpp"
#include "vmm/boot/vmcoreinfo.hpp"
#include "vmm/gdb/describe.hpp"

namespace inox::gdb {
namespace {

constexpr std::byte int3{0xcc};
constexpr std::uint32_t exception_bp = 3;
constexpr std::uint32_t msr_kernel_gs_base = 0xc0000102;
constexpr std::uint64_t rflags_if = 1U << 9;
// Of the standard form of XSAVE: the header's XSTATE_BV, and where the upper halves of the YMM registers are.
constexpr std::size_t xstate_bv = 512;
constexpr std::size_t ymm_at = 576;
constexpr std::byte xstate_avx{1U << 2};

/// The control bits of slot `i` in DR7 (Intel SDM 18.2.4).
std::uint64_t dr7_bits(std::size_t i, const Breakpoint& breakpoint) {
    const std::uint64_t access = breakpoint.kind == Breakpoint::Kind::execute ? 0
                                 : breakpoint.kind == Breakpoint::Kind::write ? 1
                                                                              : 3;
    const std::uint64_t length = breakpoint.length == 8 ? 2 : breakpoint.length - 1;
    return std::uint64_t{2} << (2 * i) | (length << 2 | access) << (16 + 4 * i);
}

bool fits_register(const Breakpoint& breakpoint) {
    const unsigned n = breakpoint.length;
    return (n == 1 || n == 2 || n == 4 || n == 8) && breakpoint.address % n == 0;
}

} // namespace

Result<Machine*> MachineTarget::machine() const {
    if (!machine_)
        return fail(Errc::wrong_state, "the guest reboots");
    return machine_;
}

// Debugger

void MachineTarget::attach(Machine& machine) {
    machine_ = &machine;
    software_.clear(); // they were in the memory of the machine before
    for (unsigned vcpu = 0; vcpu < vcpus(); ++vcpu)
        static_cast<void>(machine.vcpu(vcpu).set_guest_debug(control(vcpu)));
    if (std::exchange(hold_next_, false))
        machine.hold(Machine::Holder::debugger);
    owner_.ready();
}

void MachineTarget::detach() noexcept {
    machine_ = nullptr;
    std::lock_guard lock{mutex_};
    stops_.clear();
}

/// The CPU that panics runs with interrupts off; the others are halted, or about to be.
void MachineTarget::on_panic() {
    if (!machine_)
        return;
    machine_->hold(Machine::Holder::debugger);
    for (unsigned id = 0; id < vcpus(); ++id) {
        const auto regs = machine_->vcpu(id).regs();
        if (regs && (regs->rflags & rflags_if) == 0 &&
            machine_->vcpu(id).mp_state().value_or(KVM_MP_STATE_HALTED) == KVM_MP_STATE_RUNNABLE)
            return stop_at({id, Stop::Why::panic, {}});
    }
    stop_at({0, Stop::Why::panic, {}});
}

void MachineTarget::on_debug_exit(Vcpu& vcpu, const vm_exit::Debug& exit) noexcept {
    const auto stop = stop_of(vcpu.id(), exit);
    if (!stop) {
        auto again = control(vcpu.id());
        again.control |= exit.exception == exception_bp ? KVM_GUESTDBG_INJECT_BP : KVM_GUESTDBG_INJECT_DB;
        static_cast<void>(vcpu.set_guest_debug(again));
        return;
    }
    machine_->close_gate();
    {
        std::lock_guard lock{mutex_};
        stops_.push_back(*stop);
    }
    loop_.post_urgent([this, alive = std::weak_ptr{alive_}] {
        if (alive.lock())
            on_stops();
    });
}

std::optional<Stop> MachineTarget::stop_of(unsigned vcpu, const vm_exit::Debug& exit) const {
    if (exit.exception == exception_bp) {
        if (std::ranges::find(software_, exit.pc, &Software::address) == software_.end())
            return std::nullopt;
        return Stop{vcpu, Stop::Why::software, {}};
    }
    for (std::size_t i = 0; i < hardware_.size(); ++i)
        if (hardware_[i] && (exit.dr6 >> i & 1) != 0)
            return Stop{vcpu, hardware_[i]->kind == Breakpoint::Kind::execute ? Stop::Why::hardware : Stop::Why::watch,
                        *hardware_[i]};
    if (step_ == vcpu)
        return Stop{vcpu, Stop::Why::step, {}};
    return std::nullopt;
}

/// Of what several vCPUs reached at the same time one is reported. A vCPU at an instruction meets its breakpoint again;
/// what a watchpoint saw is kept for the next time.
void MachineTarget::on_stops() {
    std::optional<Stop> first;
    {
        std::lock_guard lock{mutex_};
        if (stops_.empty() || !machine_)
            return;
        first = stops_.front();
        stops_.erase(stops_.begin());
        std::erase_if(stops_, [](const Stop& one) { return one.why != Stop::Why::watch; });
    }
    machine_->hold(Machine::Holder::debugger);
    stop_at(*first);
}

void MachineTarget::stop_at(const Stop& stop) {
    step_.reset();
    owner_.stopped(stop);
}

// Target

Result<Registers> MachineTarget::registers(unsigned id) const {
    const auto& vcpu = TRY(machine())->vcpu(id);
    Registers out;
    out.general = TRY(vcpu.regs());
    out.special = TRY(vcpu.sregs());
    out.fpu = TRY(vcpu.fpu());
    out.kernel_gs_base = TRY(vcpu.msr(msr_kernel_gs_base));
    const auto state = TRY(vcpu.xsave());
    if ((state[xstate_bv] & xstate_avx) != std::byte{})
        std::memcpy(out.ymm_high.data(), state.data() + ymm_at, sizeof out.ymm_high);
    return out;
}

Result<void> MachineTarget::set_registers(unsigned id, const Registers& wanted) {
    const auto before = TRY(registers(id));
    auto& vcpu = machine_->vcpu(id);
    const auto differs = [](const auto& a, const auto& b) { return std::memcmp(&a, &b, sizeof a) != 0; };
    if (differs(before.special, wanted.special))
        TRY_VOID(vcpu.set_sregs(wanted.special));
    if (differs(before.general, wanted.general))
        TRY_VOID(vcpu.set_regs(wanted.general));
    if (differs(before.fpu, wanted.fpu))
        TRY_VOID(vcpu.set_fpu(wanted.fpu));
    if (before.ymm_high != wanted.ymm_high) {
        auto state = TRY(vcpu.xsave());
        state[xstate_bv] |= xstate_avx;
        std::memcpy(state.data() + ymm_at, wanted.ymm_high.data(), sizeof wanted.ymm_high);
        TRY_VOID(vcpu.set_xsave(state));
    }
    return {};
}

/// In user mode, a kernel with page table isolation has its own tables in the page before (bit 12 of CR3, and bit 11 of
/// the PCID), and they map the kernel, too.
std::optional<Gpa> MachineTarget::physical(Vcpu& vcpu, std::uint64_t address) const {
    if (const auto found = vcpu.physical(address))
        return found;
    constexpr std::uint64_t user_tables = 3U << 11;
    const auto before = vcpu.sregs();
    if (!before || (before->cr3 & 1U << 12) == 0)
        return std::nullopt;
    auto kernel = *before;
    kernel.cr3 &= ~user_tables;
    if (!vcpu.set_sregs(kernel))
        return std::nullopt;
    const auto found = vcpu.physical(address);
    static_cast<void>(vcpu.set_sregs(*before));
    return found;
}

std::span<std::byte> MachineTarget::piece(Vcpu& vcpu, std::uint64_t address, std::size_t most) const {
    const auto place = physical(vcpu, address);
    const auto size = std::min<std::uint64_t>(most, page_size - address % page_size);
    const auto bytes = place ? machine_->memory().host(*place, size) : std::nullopt;
    if (bytes)
        machine_->memory().dirty().mark(bytes->data(), bytes->size()); // the debugger may write there
    return bytes.value_or(std::span<std::byte>{});
}

std::size_t MachineTarget::read(unsigned id, std::uint64_t address, std::span<std::byte> to) const {
    if (!machine_)
        return 0;
    std::size_t done = 0;
    while (done < to.size()) {
        const auto from = piece(machine_->vcpu(id), address + done, to.size() - done);
        if (from.empty())
            break;
        std::memcpy(to.subspan(done).data(), from.data(), from.size());
        for (const auto& one : software_)
            if (one.place >= from.data() && one.place < from.data() + from.size())
                to[done + static_cast<std::size_t>(one.place - from.data())] = one.original;
        done += from.size();
    }
    return done;
}

bool MachineTarget::write(unsigned id, std::uint64_t address, std::span<const std::byte> from) {
    if (!machine_)
        return false;
    std::vector<std::span<std::byte>> pieces;
    for (std::size_t seen = 0; seen < from.size(); seen += pieces.back().size()) {
        pieces.push_back(piece(machine_->vcpu(id), address + seen, from.size() - seen));
        if (pieces.back().empty())
            return false;
    }
    for (const auto to : pieces) {
        std::memcpy(to.data(), from.data(), to.size());
        for (auto& one : software_)
            if (one.place >= to.data() && one.place < to.data() + to.size()) {
                one.original = *one.place;
                *one.place = int3;
            }
        from = from.subspan(to.size());
    }
    return true;
}

Result<void> MachineTarget::insert(unsigned vcpu, const Breakpoint& breakpoint) {
    if (breakpoint.kind == Breakpoint::Kind::software)
        return insert_software(vcpu, breakpoint);
    if (!fits_register(breakpoint))
        return fail(Errc::no_resource, "no debug register can watch this");
    if (std::ranges::find(hardware_, std::optional{breakpoint}) != hardware_.end())
        return {};
    const auto free = std::ranges::find(hardware_, false, &std::optional<Breakpoint>::has_value);
    if (free == hardware_.end())
        return fail(Errc::no_resource, "all four debug registers are in use");
    *free = breakpoint;
    return {};
}

Result<void> MachineTarget::insert_software(unsigned vcpu, const Breakpoint& breakpoint) {
    auto& machine = *TRY(this->machine());
    if (std::ranges::find(software_, breakpoint.address, &Software::address) != software_.end())
        return {};
    const auto place = piece(machine.vcpu(vcpu), breakpoint.address, 1);
    if (place.empty())
        return fail(Errc::not_found, "no memory is at the address");
    software_.push_back({breakpoint.address, place.data(), place.front()});
    place.front() = int3;
    return {};
}

/// The guest may have written something else there since; that stays.
void MachineTarget::put_back(const Software& one) const {
    if (*one.place != int3)
        return;
    *one.place = one.original;
    if (machine_)
        machine_->memory().dirty().mark(one.place, 1);
}

void MachineTarget::remove(const Breakpoint& breakpoint) {
    std::erase_if(software_, [&](const Software& one) {
        if (breakpoint.kind != Breakpoint::Kind::software || one.address != breakpoint.address)
            return false;
        put_back(one);
        return true;
    });
    std::ranges::replace(hardware_, std::optional{breakpoint}, std::optional<Breakpoint>{});
}

void MachineTarget::remove_all() {
    for (const auto& one : software_)
        put_back(one);
    software_.clear();
    hardware_.fill(std::nullopt);
}

kvm_guest_debug MachineTarget::control(unsigned vcpu) const {
    kvm_guest_debug out{};
    if (!software_.empty())
        out.control |= KVM_GUESTDBG_USE_SW_BP;
    for (std::size_t i = 0; i < hardware_.size(); ++i)
        if (hardware_[i]) {
            out.control |= KVM_GUESTDBG_USE_HW_BP;
            out.arch.debugreg[i] = hardware_[i]->address;
            out.arch.debugreg[7] |= dr7_bits(i, *hardware_[i]);
        }
    if (step_ == vcpu) // an interrupt would end each step in its handler
        out.control |= KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
    if (out.control != 0)
        out.control |= KVM_GUESTDBG_ENABLE;
    return out;
}

Result<void> MachineTarget::resume(const Resume& how) {
    auto& machine = *TRY(this->machine());
    {
        std::lock_guard lock{mutex_};
        if (!stops_.empty()) {
            loop_.post([this, alive = std::weak_ptr{alive_}] {
                if (alive.lock())
                    on_stops();
            });
            return {};
        }
    }
    step_ = how.step;
    for (unsigned vcpu = 0; vcpu < vcpus(); ++vcpu) {
        auto wanted = control(vcpu);
        if (machine.vcpu(vcpu).set_guest_debug(wanted))
            continue;
        wanted.control &= ~static_cast<std::uint32_t>(KVM_GUESTDBG_BLOCKIRQ); // since Linux 5.16
        TRY_VOID(machine.vcpu(vcpu).set_guest_debug(wanted));
    }
    machine.release_debugger(how.only);
    return {};
}

void MachineTarget::interrupt() {
    step_.reset();
    if (machine_)
        machine_->hold(Machine::Holder::debugger);
    else
        hold_next_ = true;
}

std::optional<std::uint64_t> MachineTarget::kernel_offset() const {
    if (!machine_)
        return std::nullopt;
    const auto info = boot::find_vmcoreinfo(machine_->memory());
    return info ? boot::vmcoreinfo_number(*info, "KERNELOFFSET") : std::nullopt;
}

std::string MachineTarget::monitor(std::string_view command) {
    if (!machine_)
        return "the guest reboots\n";
    if (command == "kaslr") {
        const auto offset = kernel_offset();
        return offset
                   ? format("the kernel's offset is %#llx: symbol-file -o %#llx vmlinux\n", hex(*offset), hex(*offset))
                   : "the kernel's offset is not known (yet): no VMCOREINFO is in memory\n";
    }
    return describe(*machine_, command);
}

} // namespace inox::gdb
