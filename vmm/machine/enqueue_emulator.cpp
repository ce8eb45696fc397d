// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/enqueue_emulator.hpp"

#include <algorithm>
#include <asm/processor-flags.h>
#include <chrono>
#include <optional>

#include "vmm/base/hex.hpp"
#include "vmm/memory/address_map.hpp"

namespace inox {
namespace {

using iommu::CpuFault;
using iommu::CpuState;
using iommu::Paging;

constexpr std::uint64_t efer_lma = 1U << 10;
constexpr std::uint64_t efer_nxe = 1U << 11;

std::uint8_t host_physical_bits() {
    constexpr std::uint8_t without_leaf = 36;
    const auto bits = static_cast<std::uint8_t>(host_address_leaf() & 0xff);
    return bits != 0 ? bits : without_leaf;
}

iommu::CodeSize code_size(const kvm_sregs& sregs) {
    if ((sregs.efer & efer_lma) != 0 && sregs.cs.l != 0)
        return iommu::CodeSize::bits64;
    return sregs.cs.db != 0 ? iommu::CodeSize::bits32 : iommu::CodeSize::bits16;
}

/// SDM volume 3, 3.4.5.1: type bits of code and data segments.
iommu::CpuSegment segment(const kvm_segment& from, bool protected_mode) {
    iommu::CpuSegment out{.base = from.base, .limit = from.limit, .big = from.db != 0};
    if (!protected_mode)
        return out;
    const bool code = (from.type & 8) != 0;
    const bool second = (from.type & 2) != 0; // readable code, writable data
    out.usable = from.unusable == 0 && from.present != 0;
    out.readable = !code || second;
    out.writable = !code && second;
    out.expand_down = !code && (from.type & 4) != 0;
    return out;
}

bool is_user(const CpuState& cpu) { return cpu.cpl == 3; }

/// The instruction's bytes as KVM reported them, or, when those are too few, read through the guest's page tables.
std::span<const std::uint8_t> fetch(const vm_exit::EmulationFailure& failure, const GuestMemory& memory,
                                    const CpuState& cpu, std::uint64_t cs_base, const Paging* paging,
                                    std::array<std::uint8_t, iommu::longest_instruction>& own) {
    if (failure.size >= own.size())
        return std::span{failure.bytes}.first(own.size());
    std::size_t count = 0;
    while (count < own.size()) {
        std::uint64_t linear = cs_base + cpu.rip + count;
        if (cpu.code != iommu::CodeSize::bits64)
            linear &= 0xffffffff;
        std::uint64_t physical = linear;
        if (paging) {
            const auto page = iommu::walk_pages(memory, *paging, linear, {.user = is_user(cpu), .fetch = true});
            if (!page)
                break;
            physical = page->address.raw();
        }
        const std::size_t part = std::min<std::size_t>(own.size() - count, page_size - linear % page_size);
        if (!memory.read(Gpa{physical}, std::as_writable_bytes(std::span{own}.subspan(count, part))))
            break;
        count += part;
    }
    return std::span{own}.first(count);
}

} // namespace

CpuState cpu_state(const kvm_regs& regs, const kvm_sregs& sregs, std::uint64_t ia32_pasid) {
    const bool protected_mode = (sregs.cr0 & X86_CR0_PE) != 0;
    const bool virtual_8086 = protected_mode && (regs.rflags & X86_EFLAGS_VM) != 0;
    const bool checked = protected_mode && !virtual_8086;
    CpuState cpu;
    cpu.registers = {regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi,
                     regs.r8,  regs.r9,  regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15};
    cpu.rip = regs.rip;
    cpu.rflags = regs.rflags;
    const std::array<const kvm_segment*, 6> segments{&sregs.es, &sregs.cs, &sregs.ss, &sregs.ds, &sregs.fs, &sregs.gs};
    for (std::size_t i = 0; i < segments.size(); ++i)
        cpu.segments[i] = segment(*segments[i], checked);
    cpu.cr0 = sregs.cr0;
    cpu.cr4 = sregs.cr4;
    cpu.code = code_size(sregs);
    cpu.cpl = virtual_8086 ? std::uint8_t{3} : protected_mode ? sregs.ss.dpl : std::uint8_t{0};
    cpu.ia32_pasid = ia32_pasid;
    return cpu;
}

std::optional<Paging> cpu_paging(const CpuState& cpu, const kvm_sregs& sregs, std::uint8_t physical_bits) {
    if ((sregs.cr0 & X86_CR0_PG) == 0)
        return std::nullopt;
    const bool long_mode = (sregs.efer & efer_lma) != 0, pae = (sregs.cr4 & X86_CR4_PAE) != 0;
    Paging paging;
    paging.mode = long_mode ? iommu::PagingMode::long_mode : pae ? iommu::PagingMode::pae : iommu::PagingMode::bits32;
    paging.root = sregs.cr3;
    paging.five_levels = (sregs.cr4 & X86_CR4_LA57) != 0;
    paging.four_mib_pages = (sregs.cr4 & X86_CR4_PSE) != 0;
    paging.write_protect = (sregs.cr0 & X86_CR0_WP) != 0;
    paging.execute_disable = paging.mode != iommu::PagingMode::bits32 && (sregs.efer & efer_nxe) != 0;
    paging.smep = (sregs.cr4 & X86_CR4_SMEP) != 0;
    paging.smap = (sregs.cr4 & X86_CR4_SMAP) != 0 && (cpu.rflags & X86_EFLAGS_AC) == 0;
    paging.physical_bits = physical_bits;
    return paging;
}

/// The machine as one instruction sees it.
class EnqueueEmulator::Access final : public iommu::EnqueueMachine {
public:
    Access(EnqueueEmulator& owner, const Paging* paging, bool user) : owner_{owner}, user_{user} {
        if (paging)
            walker_.emplace(owner.memory_, *paging);
    }

    std::expected<Gpa, CpuFault> translate(std::uint64_t linear, bool write) noexcept override {
        if (!walker_)
            return Gpa{linear};
        const auto page = walker_->walk(linear, {.write = write, .user = user_});
        if (!page)
            return std::unexpected{CpuFault{CpuFault::pf, page.error().code, linear}};
        return page->address;
    }
    void read(Gpa from, std::span<std::byte> to) noexcept override {
        if (owner_.memory_.read(from, to))
            return;
        // Reads device registers in naturally aligned pieces, each as wide as possible.
        while (!to.empty()) {
            std::size_t size = 8;
            while (size > to.size() || !is_aligned(from.raw(), size))
                size /= 2;
            owner_.bus_.read(from, to.first(size));
            to = to.subspan(size);
            from = from + size;
        }
    }
    void store(Gpa to, const iommu::EnqueueCommand& bytes) noexcept override {
        if (!owner_.memory_.write(to, bytes))
            owner_.bus_.write_wide(to, WideBytes{bytes});
    }
    bool enqueue(Gpa to, const iommu::EnqueueCommand& command) noexcept override {
        return owner_.bus_.enqueue(to, WideBytes{command});
    }
    bool with_pasid(iommu::GuestPasid guest, const std::function<void(iommu::HostPasid)>& submit) noexcept override {
        return owner_.with_pasid_(guest, submit);
    }

private:
    EnqueueEmulator& owner_;
    std::optional<iommu::PageWalker> walker_{};
    bool user_;
};

EnqueueEmulator::EnqueueEmulator(const GuestMemory& memory, MemoryBus& bus, WithPasid with_pasid)
    : memory_{memory}, bus_{bus}, with_pasid_{std::move(with_pasid)}, physical_bits_{host_physical_bits()} {}

EnqueueEmulator::Verdict EnqueueEmulator::emulate(Vcpu& vcpu, const vm_exit::EmulationFailure& failure,
                                                  std::uint64_t ia32_pasid) noexcept {
    using Clock = std::chrono::steady_clock;
    if (failure.suberror != KVM_INTERNAL_ERROR_EMULATION)
        return Verdict::not_ours;
    auto regs = vcpu.regs();
    const auto sregs = vcpu.sregs();
    if (!regs || !sregs)
        return Verdict::failed;
    const auto started = Clock::now();
    const CpuState cpu = cpu_state(*regs, *sregs, ia32_pasid);
    auto paging = cpu_paging(cpu, *sregs, physical_bits_);
    std::array<std::uint8_t, iommu::longest_instruction> own{};
    const std::uint64_t cs_base = cpu.code == iommu::CodeSize::bits64 ? 0 : sregs->cs.base;
    const auto instruction =
        iommu::decode_enqueue(fetch(failure, memory_, cpu, cs_base, paging ? &*paging : nullptr, own), cpu.code);
    if (!instruction)
        return cpu.cpl == 0 ? Verdict::not_ours : raise(vcpu, {CpuFault::ud, {}, {}});
    if (paging && paging->mode == iommu::PagingMode::long_mode && (sregs->cr4 & X86_CR4_PKE) != 0) {
        const auto pkru = vcpu.pkru();
        if (!pkru)
            return Verdict::failed;
        paging->pkru = *pkru;
    }
    const auto outcome = execute(*instruction, cpu, paging ? &*paging : nullptr);
    nanoseconds_.fetch_add(static_cast<std::uint64_t>(std::chrono::nanoseconds{Clock::now() - started}.count()),
                           std::memory_order_relaxed);
    return finish(vcpu, *regs, *instruction, outcome);
}

iommu::EnqueueOutcome EnqueueEmulator::execute(const iommu::EnqueueInstruction& instruction, const CpuState& cpu,
                                               const Paging* paging) noexcept {
    Access access{*this, paging, is_user(cpu)};
    return iommu::execute_enqueue(instruction, cpu, access);
}

EnqueueEmulator::Verdict EnqueueEmulator::finish(Vcpu& vcpu, kvm_regs& regs,
                                                 const iommu::EnqueueInstruction& instruction,
                                                 const iommu::EnqueueOutcome& outcome) noexcept {
    using Executed = iommu::EnqueueOutcome::Verdict;
    if (outcome.verdict != Executed::retired) {
        if (outcome.verdict == Executed::no_translation) {
            untranslated_.fetch_add(1, std::memory_order_relaxed);
            if (limiter_.allow())
                log::write(log::Level::info, "vCPU %u: no translation of guest PASID %u for %s at RIP %#llx", vcpu.id(),
                           outcome.pasid.raw(), instruction.kind == iommu::EnqueueKind::enqcmd ? "ENQCMD" : "ENQCMDS",
                           hex(regs.rip));
        }
        return raise(vcpu, outcome.fault);
    }
    auto& counter = instruction.kind == iommu::EnqueueKind::movdir64b ? stores_
                    : outcome.accepted                                ? accepted_
                                                                      : retried_;
    counter.fetch_add(1, std::memory_order_relaxed);
    regs.rip = outcome.rip;
    regs.rflags = outcome.rflags;
    return vcpu.set_regs(regs) ? Verdict::resumed : Verdict::failed;
}

EnqueueEmulator::Verdict EnqueueEmulator::raise(Vcpu& vcpu, const CpuFault& fault) noexcept {
    faults_.fetch_add(1, std::memory_order_relaxed);
    return vcpu.inject({fault.vector, fault.error_code, fault.cr2}) ? Verdict::resumed : Verdict::failed;
}

EnqueueCounts EnqueueEmulator::counts() const noexcept {
    const auto get = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
    return {get(accepted_), get(retried_), get(stores_), get(faults_), get(untranslated_), get(nanoseconds_)};
}

} // namespace inox
