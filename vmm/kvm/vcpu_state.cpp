// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu_state.hpp"

#include <algorithm>
#include <cstring>
#include <sys/ioctl.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/state.hpp"
#include "vmm/kvm/lists.hpp"
#include "vmm/kvm/vcpu.hpp"
#include "vmm/kvm/vm.hpp"

namespace inox {
namespace {

constexpr std::size_t most_msrs = 4096;
constexpr std::size_t most_cpuid = 256; // the kernel's own limit
constexpr std::size_t most_xsave = 1 * MiB;

constexpr std::uint32_t msr_tsc = 0x10;
constexpr std::uint32_t msr_apic_base = 0x1b;
constexpr std::uint32_t msr_pred_cmd = 0x49;
constexpr std::uint32_t msr_flush_cmd = 0x10b;
constexpr std::uint32_t msr_mcg_cap = 0x179;
constexpr std::uint32_t msr_mcg_ctl = 0x17b;
constexpr std::uint32_t msr_tsc_deadline = 0x6e0;
constexpr std::uint32_t msr_xss = 0xda0;

/// What SET_MSRS is not for: commands, what SREGS sets already and would reset the APIC a second time, and what
/// KVM_X86_SETUP_MCE sets.
bool is_state(std::uint32_t msr) {
    static constexpr std::uint32_t not_state[] = {msr_apic_base, msr_pred_cmd, msr_flush_cmd, msr_mcg_cap, msr_mcg_ctl};
    return std::ranges::find(not_state, msr) == std::end(not_state);
}

template <class T> Result<T> get(int fd, unsigned long request, const char* name) {
    T value{};
    TRY_VOID(checked_ioctl(fd, request, &value, name));
    return value;
}

template <class T> Result<void> set(int fd, unsigned long request, const T& value, const char* name) {
    T copy = value;
    TRY_VOID(checked_ioctl(fd, request, &copy, name));
    return {};
}

/// The list's entries as one field: thousands of small ones would only be slower.
template <class T> void pods(State& state, const char* name, std::vector<T>& list, std::size_t most) {
    std::vector<std::byte> bytes;
    if (!state.restores())
        bytes.assign(std::as_bytes(std::span{list}).begin(), std::as_bytes(std::span{list}).end());
    state.bytes(name, bytes, most * sizeof(T));
    if (!state.restores())
        return;
    state.check(bytes.size() % sizeof(T) == 0, "a list that ends within an element");
    list.resize(bytes.size() / sizeof(T));
    if (!list.empty())
        std::memcpy(list.data(), bytes.data(), list.size() * sizeof(T));
}

} // namespace

void VcpuState::state(State& state) {
    state.version(1);
    state.pod("mp", mp);
    state.pod("regs", regs);
    state.pod("sregs", sregs);
    state.flag("has_sregs2", has_sregs2);
    state.pod("sregs2", sregs2);
    state.bytes("xsave", xsave, most_xsave);
    state.pod("fpu", fpu);
    state.pod("xcrs", xcrs);
    state.pod("debug", debug);
    state.pod("lapic", lapic);
    pods(state, "msrs", msrs, most_msrs);
    state.pod("events", events);
    pods(state, "cpuid", cpuid, most_cpuid);
    state.number("tsc_khz", tsc_khz);
    state.number("ia32_pasid", ia32_pasid);
    state.check(xsave.empty() || xsave.size() >= XsaveArea{}.size(), "an XSAVE area of less than 4096 bytes");
    state.check(!cpuid.empty(), "a vCPU without CPUID");
}

Result<std::vector<std::uint32_t>> Kvm::state_msrs() const {
    // A count and then the indices, without the padding of other lists.
    std::vector<std::uint32_t> list(1 + most_msrs);
    list.front() = most_msrs;
    TRY_VOID(checked_ioctl(fd(), kvm_list::get_msr_index_list, list.data(), "KVM_GET_MSR_INDEX_LIST"));
    const auto count = std::min<std::size_t>(list.front(), most_msrs);
    std::vector<std::uint32_t> all(list.begin() + 1, list.begin() + 1 + static_cast<std::ptrdiff_t>(count));
    // KVM's list lacks these, though it keeps them. A guest that loses its MTRRs early in its boot panics.
    for (std::uint32_t msr = 0x200; msr <= 0x20f; ++msr)
        all.push_back(msr);
    for (const std::uint32_t msr : {0x250U, 0x258U, 0x259U, 0x2ffU, msr_xss})
        all.push_back(msr);
    for (std::uint32_t msr = 0x268; msr <= 0x26f; ++msr)
        all.push_back(msr);
    for (std::uint32_t msr = 0x400; msr < 0x400 + 4 * 32; ++msr) // machine-check banks
        all.push_back(msr);
    std::erase_if(all, [](std::uint32_t msr) { return !is_state(msr); });
    std::ranges::sort(all);
    const auto twice = std::ranges::unique(all);
    all.erase(twice.begin(), twice.end());
    return all;
}

/// Without those that this vCPU lacks: KVM stops at the first of them.
Result<std::vector<kvm_msr_entry>> Vcpu::read_msrs(std::span<const std::uint32_t> indices) const {
    constexpr std::size_t most_at_once = 255;
    std::vector<kvm_msr_entry> out;
    while (!indices.empty()) {
        const auto count = std::min(indices.size(), most_at_once);
        std::vector<std::byte> buffer(sizeof(kvm_list::Header) + count * sizeof(kvm_msr_entry));
        const kvm_list::Header header{static_cast<std::uint32_t>(count), 0};
        std::memcpy(buffer.data(), &header, sizeof header);
        for (std::size_t i = 0; i < count; ++i) {
            kvm_msr_entry entry{};
            entry.index = indices[i];
            std::memcpy(buffer.data() + sizeof header + i * sizeof entry, &entry, sizeof entry);
        }
        const auto got =
            static_cast<std::size_t>(TRY(checked_ioctl(fd_.get(), kvm_list::get_msrs, buffer.data(), "KVM_GET_MSRS")));
        for (std::size_t i = 0; i < got; ++i) {
            kvm_msr_entry entry{};
            std::memcpy(&entry, buffer.data() + sizeof header + i * sizeof entry, sizeof entry);
            out.push_back(entry);
        }
        indices = indices.subspan(std::min(indices.size(), got == count ? count : got + 1));
    }
    return out;
}

/// In this order:
/// - MP state first: reading it makes KVM take a pending INIT or SIPI, which changes registers and the local APIC;
/// - the local APIC before MSRs: reading it folds posted interrupts into its page;
/// - events last, so that what the other calls cause is in them.
Result<VcpuState> Vcpu::save(std::span<const std::uint32_t> msrs) const {
    const int fd = fd_.get();
    VcpuState out;
    out.mp = TRY(get<kvm_mp_state>(fd, KVM_GET_MP_STATE, "KVM_GET_MP_STATE"));
    out.regs = TRY(get<kvm_regs>(fd, KVM_GET_REGS, "KVM_GET_REGS"));
    out.sregs = TRY(get<kvm_sregs>(fd, KVM_GET_SREGS, "KVM_GET_SREGS"));
    if (auto sregs2 = get<kvm_sregs2>(fd, KVM_GET_SREGS2, "KVM_GET_SREGS2")) {
        out.sregs2 = *sregs2;
        out.has_sregs2 = true;
    }
    // KVM leaves bytes out that it does not use: the buffer is zero before.
    out.xsave.resize(std::max(xsave_size_, XsaveArea{}.size()));
    const bool second = xsave_size_ != 0;
    if (!checked_ioctl(fd, second ? kvm_list::get_xsave2 : kvm_list::get_xsave, out.xsave.data(), "KVM_GET_XSAVE"))
        out.xsave.clear();
    out.fpu = TRY(get<kvm_fpu>(fd, KVM_GET_FPU, "KVM_GET_FPU"));
    if (auto xcrs = get<kvm_xcrs>(fd, KVM_GET_XCRS, "KVM_GET_XCRS"))
        out.xcrs = *xcrs; // else KVM knows no XSAVE
    out.debug = TRY(get<kvm_debugregs>(fd, KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS"));
    out.lapic = TRY(get<kvm_lapic_state>(fd, KVM_GET_LAPIC, "KVM_GET_LAPIC"));
    out.tsc_khz = tsc_khz();
    out.cpuid = cpuid_;
    out.msrs = TRY(read_msrs(msrs));
    out.events = TRY(get<kvm_vcpu_events>(fd, KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"));
    return out;
}

/// In this order:
/// - CPUID before all: XCR0, MSRs, x2APIC and the size of the XSAVE area hang on it;
/// - registers before events: setting them drops a pending exception;
/// - SREGS before the local APIC: the APIC's base says how its page is read;
/// - XSAVE before MSRs: IA32_XFD disables components, and a write drops those that are disabled at that moment;
/// - the local APIC before MSRs: KVM drops the TSC's deadline silently unless the timer is in that mode already;
/// - the deadline after the TSC, which it is compared with;
/// - events after SREGS, which has a part of the pending interrupt only.
Result<void> Vcpu::restore(const VcpuState& state) {
    const int fd = fd_.get();
    TRY_VOID(set_cpuid(state.cpuid));
    TRY_VOID(set(fd, KVM_SET_REGS, state.regs, "KVM_SET_REGS"));
    const bool new_sregs =
        state.has_sregs2 && checked_ioctl(fd, KVM_SET_SREGS2, const_cast<kvm_sregs2*>(&state.sregs2), "KVM_SET_SREGS2");
    if (!new_sregs)
        TRY_VOID(set(fd, KVM_SET_SREGS, state.sregs, "KVM_SET_SREGS"));
    if (state.xsave.empty()) {
        TRY_VOID(set(fd, KVM_SET_FPU, state.fpu, "KVM_SET_FPU"));
    } else {
        std::vector<std::byte> area = state.xsave;
        area.resize(std::max(area.size(), std::max(xsave_size_, XsaveArea{}.size())));
        TRY_VOID(checked_ioctl(fd, kvm_list::set_xsave, area.data(), "KVM_SET_XSAVE"));
    }
    if (state.xcrs.nr_xcrs != 0)
        TRY_VOID(set(fd, KVM_SET_XCRS, state.xcrs, "KVM_SET_XCRS"));
    TRY_VOID(set(fd, KVM_SET_DEBUGREGS, state.debug, "KVM_SET_DEBUGREGS"));
    TRY_VOID(set(fd, KVM_SET_LAPIC, state.lapic, "KVM_SET_LAPIC"));
    if (state.tsc_khz != 0 && tsc_khz() != 0) {
        // Two starts of one host measure rates that differ by so much. KVM scales only beyond it, too.
        const auto here = std::int64_t{tsc_khz()};
        const auto apart = std::int64_t{state.tsc_khz} - here;
        if (std::abs(apart) * 4000 > here &&
            !checked_ioctl(fd, KVM_SET_TSC_KHZ, std::uint64_t{state.tsc_khz}, "KVM_SET_TSC_KHZ"))
            return fail(Errc::snapshot_mismatch,
                        format("the guest's TSC counts %u kHz, and this host's %u kHz, which it cannot scale",
                               state.tsc_khz, tsc_khz()),
                        "use a host of the same frequency, or one whose CPUs scale the TSC");
    }
    TRY_VOID(restore_msrs(state.msrs));
    TRY_VOID(set(fd, KVM_SET_MP_STATE, state.mp, "KVM_SET_MP_STATE"));
    return set(fd, KVM_SET_VCPU_EVENTS, state.events, "KVM_SET_VCPU_EVENTS");
}

namespace {

/// A deadline of 0 with the timer armed: KVM took it, and perhaps the interrupt has not reached the guest. One that is
/// over fires at once, and one too many does no harm.
std::uint64_t deadline(std::uint64_t saved, std::uint64_t tsc, const kvm_lapic_state& lapic) {
    constexpr std::size_t lvt_timer = 0x320;
    constexpr std::uint32_t masked = 1U << 16;
    constexpr std::uint32_t mode = 3U << 17;
    constexpr std::uint32_t tsc_deadline = 2U << 17;
    std::uint32_t lvt = 0;
    std::memcpy(&lvt, lapic.regs + lvt_timer, sizeof lvt);
    const bool armed = (lvt & masked) == 0 && (lvt & mode) == tsc_deadline;
    return saved == 0 && armed ? tsc : saved;
}

} // namespace

Result<void> Vcpu::restore_msrs(std::span<const kvm_msr_entry> msrs) {
    std::vector<kvm_msr_entry> first;
    std::uint64_t tsc = 0;
    std::optional<std::uint64_t> timer;
    for (const auto& one : msrs) {
        if (one.index == msr_tsc)
            tsc = one.data;
        if (one.index == msr_tsc_deadline)
            timer = one.data;
        else if (is_state(one.index))
            first.push_back(one);
    }
    if (timer) {
        const auto lapic = TRY(get<kvm_lapic_state>(fd_.get(), KVM_GET_LAPIC, "KVM_GET_LAPIC"));
        kvm_msr_entry last{};
        last.index = msr_tsc_deadline;
        last.data = deadline(*timer, tsc, lapic);
        first.push_back(last);
    }
    constexpr std::size_t most_at_once = 255;
    for (std::span<const kvm_msr_entry> rest{first}; !rest.empty();) {
        const auto part = rest.first(std::min(rest.size(), most_at_once));
        const auto done =
            static_cast<std::size_t>(TRY(kvm_list::send(fd_.get(), kvm_list::set_msrs, part, "KVM_SET_MSRS")));
        rest = rest.subspan(done);
        if (done == part.size())
            continue;
        // What cannot be written is as it should be, or this KVM cannot go on with that guest.
        const auto refused = rest.front();
        const auto now = msr(refused.index);
        if (!now ? refused.data != 0 : *now != refused.data)
            return fail(Errc::snapshot_mismatch,
                        format("this host's KVM refuses to set MSR %#x to %#llx", refused.index,
                               static_cast<unsigned long long>(refused.data)),
                        "restore on a host with the same CPU and the same or a newer kernel");
        rest = rest.subspan(1);
    }
    return {};
}

namespace {

struct FeatureWord {
    std::uint32_t leaf;
    std::uint32_t subleaf;
    unsigned reg;      ///< 0 to 3: EAX to EDX
    const char* names; ///< of the bits from 0 on, with blanks between; - for one without
};

constexpr FeatureWord feature_words[] = {
    {1, 0, 2,
     "sse3 pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 "
     "x2apic movbe popcnt tsc_deadline aes xsave - avx f16c rdrand hypervisor"},
    {1, 0, 3,
     "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 psn clflush - ds acpi mmx fxsr sse "
     "sse2 "
     "ss - tm ia64 pbe"},
    {7, 0, 1,
     "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp smep bmi2 erms invpcid rtm pqm - mpx rdt_a avx512f avx512dq rdseed adx "
     "smap avx512ifma - clflushopt clwb pt avx512pf avx512er avx512cd sha avx512bw avx512vl"},
    {7, 0, 2,
     "prefetchwt1 avx512vbmi umip pku - waitpkg avx512vbmi2 shstk gfni vaes vpclmulqdq avx512vnni avx512bitalg tme "
     "avx512vpopcntdq - la57 - - - - - rdpid keylocker bus_lock cldemote - movdiri movdir64b enqcmd sgx_lc pks"},
    {7, 0, 3,
     "- - avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect srbds_ctrl md_clear rtm_always_abort - "
     "tsx_force_abort serialize hybrid tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 "
     "spec_ctrl stibp flush_l1d arch_capabilities core_capabilities ssbd"},
    {7, 1, 0,
     "sha512 sm3 sm4 - avx_vnni avx512_bf16 - cmpccxadd - - fzrm fsrs fsrc - - - - fred lkgs wrmsrns - amx_fp16 "
     "hreset avx_ifma - - lam"},
    {7, 2, 3, "psfd ipred_ctrl rrsba_ctrl ddpd bhi_ctrl mcdt_no"},
    {0xd, 0, 0, "x87 sse avx bndregs bndcsr opmask zmm_hi256 hi16_zmm - pkru - - - - - - - xtilecfg xtiledata"},
    {0xd, 1, 0, "xsaveopt xsavec xgetbv1 xsaves xfd"},
    {0x40000001, 0, 0,
     "clocksource nop_io_delay mmu_op clocksource2 async_pf steal_time pv_eoi pv_unhalt - pv_tlb_flush "
     "async_pf_vmexit pv_send_ipi poll_control pv_sched_yield async_pf_int msi_ext_dest_id hc_map_gpa_range "
     "migration_control - - - - - - clocksource_stable"},
    {0x80000001, 0, 2,
     "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 "
     "tce - - - tbm topoext perfctr_core perfctr_nb - - ptsc perfctr_llc mwaitx"},
    {0x80000001, 0, 3,
     "fpu vme de pse tsc msr pae mce cx8 apic - syscall mtrr pge mca cmov pat pse36 - - nx - mmxext mmx fxsr fxsr_opt "
     "pdpe1gb rdtscp - lm 3dnowext 3dnow"},
    {0x80000007, 0, 3, "- - - - - - - - invtsc"},
    {0x80000008, 0, 1,
     "clzero - xsaveerptr - - - - - - wbnoinvd - - ibpb - ibrs stibp ibrs_always_on stibp_always_on - - - - - - ssbd "
     "virt_ssbd"},
};

std::uint32_t word_of(const std::vector<kvm_cpuid_entry2>& table, std::uint32_t leaf, std::uint32_t subleaf,
                      unsigned reg) {
    for (const auto& entry : table)
        if (entry.function == leaf &&
            (entry.index == subleaf || (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) == 0)) {
            const std::uint32_t words[] = {entry.eax, entry.ebx, entry.ecx, entry.edx};
            return words[reg];
        }
    return 0;
}

/// What the guest's own registers turn on and off, and so is no matter of the host.
std::uint32_t own_bits(const FeatureWord& word) {
    constexpr std::uint32_t osxsave = 1U << 27;
    constexpr std::uint32_t apic = 1U << 9;
    constexpr std::uint32_t ospke = 1U << 4;
    if (word.leaf == 1)
        return word.reg == 2 ? osxsave : apic;
    return word.leaf == 7 && word.subleaf == 0 && word.reg == 2 ? ospke : 0;
}

std::string bit_name(const char* names, unsigned bit) {
    std::string_view rest{names};
    for (; bit > 0 && rest.find(' ') != rest.npos; --bit)
        rest.remove_prefix(rest.find(' ') + 1);
    const auto name = rest.substr(0, rest.find(' '));
    return bit > 0 || name == "-" ? "" : std::string{name};
}

std::string vendor_of(const std::vector<kvm_cpuid_entry2>& table) {
    std::string out;
    for (const unsigned reg : {1U, 3U, 2U})
        for (unsigned byte = 0; byte < 4; ++byte)
            if (const char c = static_cast<char>(word_of(table, 0, 0, reg) >> (8 * byte)); c >= ' ' && c <= '~')
                out += c;
    return out;
}

} // namespace

std::vector<std::string> missing_cpuid(const std::vector<kvm_cpuid_entry2>& saved,
                                       const std::vector<kvm_cpuid_entry2>& offered) {
    static constexpr const char* registers[] = {"EAX", "EBX", "ECX", "EDX"};
    std::vector<std::string> missing;
    if (const auto then = vendor_of(saved), now = vendor_of(offered); then != now)
        missing.push_back("a CPU of " + then + " (this one is of " + now + ")");
    for (const auto& word : feature_words) {
        const auto lost = word_of(saved, word.leaf, word.subleaf, word.reg) &
                          ~word_of(offered, word.leaf, word.subleaf, word.reg) & ~own_bits(word);
        for (unsigned bit = 0; bit < 32; ++bit)
            if ((lost >> bit & 1) != 0) {
                const auto name = bit_name(word.names, bit);
                missing.push_back(format("%s%s%s %x.%u %s bit %u%s", name.c_str(), name.empty() ? "" : " (", "leaf",
                                         word.leaf, word.subleaf, registers[word.reg], bit, name.empty() ? "" : ")"));
            }
    }
    const auto width = [](const auto& table) { return word_of(table, 0x80000008, 0, 0) & 0xff; };
    if (width(saved) > width(offered))
        missing.push_back(format("physical addresses of %u bits (this CPU has %u)", width(saved), width(offered)));
    return missing;
}

} // namespace inox
