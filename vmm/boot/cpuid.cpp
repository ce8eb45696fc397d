// SPDX-License-Identifier: Apache-2.0
// Bit numbers: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
#include "vmm/boot/cpuid.hpp"

#include <algorithm>
#include <bit>
#include <cpuid.h>

namespace inox::boot {
namespace {

using Entries = std::vector<kvm_cpuid_entry2>;
using Entry = kvm_cpuid_entry2;

constexpr std::uint32_t hypervisor_leaf = 0x40000000;
constexpr std::uint32_t hypervisor_timing_leaf = 0x40000010; // VMware's convention, also used by QEMU and FreeBSD
constexpr std::uint32_t kvm_apic_bus_khz = 1'000'000;
constexpr std::uint32_t brand_leaf = 0x80000002; // and the two after it
constexpr std::uint32_t extended_leaf = 0x80000000;
constexpr std::uint32_t amd_features_leaf = 0x80000001;
constexpr std::uint32_t amd_sizes_leaf = 0x80000008;
constexpr std::uint32_t amd_caches_leaf = 0x8000001d;
constexpr std::uint32_t amd_topology_leaf = 0x8000001e;

constexpr std::uint32_t bit(unsigned number) { return 1U << number; }

void assign(std::uint32_t& target, unsigned number, bool value) {
    target = value ? target | bit(number) : target & ~bit(number);
}
/// Bits [last:first] of `target`.
void assign(std::uint32_t& target, unsigned last, unsigned first, std::uint32_t value) {
    const std::uint32_t mask = (last - first == 31 ? 0U : bit(last - first + 1)) - 1;
    target = (target & ~(mask << first)) | (value & mask) << first;
}

/// The parts of an APIC id: thread bits, above them core bits. There is one package, so it has no package bits.
struct Topology {
    unsigned apic_id;
    unsigned cpus;
    unsigned threads_per_core;
    unsigned thread_bits;  ///< shift an APIC id right by these to get its core
    unsigned package_bits; ///< shift it right by these to get its package
};

Topology topology_of(const CpuidRequest& request) {
    const unsigned threads = request.smt && request.cpus > 1 ? 2 : 1;
    return {request.cpu, request.cpus, threads, threads - 1,
            static_cast<unsigned>(std::bit_width(std::max(request.cpus, 1U) - 1U))};
}

Entry* find(Entries& entries, std::uint32_t function, std::uint32_t index = 0) {
    const auto found = std::ranges::find_if(
        entries, [&](const Entry& entry) { return entry.function == function && entry.index == index; });
    return found == entries.end() ? nullptr : &*found;
}

/// Replaces the leaf's registers, adding the leaf when KVM did not list it.
void set(Entries& entries, const Entry& entry) {
    if (Entry* old = find(entries, entry.function, entry.index))
        *old = entry;
    else
        entries.push_back(entry);
}

Entry make(std::uint32_t function, std::uint32_t index, std::uint32_t eax, std::uint32_t ebx, std::uint32_t ecx,
           std::uint32_t edx) {
    Entry entry{};
    entry.function = function;
    entry.index = index;
    entry.eax = eax;
    entry.ebx = ebx;
    entry.ecx = ecx;
    entry.edx = edx;
    return entry;
}

void filter_features(Entry& leaf1, const CpuidRequest& request, const Topology& topology) {
    assign(leaf1.ebx, 31, 24, topology.apic_id);
    assign(leaf1.ebx, 23, 16, std::min(bit(topology.package_bits), 255U));
    assign(leaf1.edx, 28, topology.cpus > 1); // HTT: the field above counts
    assign(leaf1.ecx, 3, false);              // MONITOR: MWAIT would exit or stop the host's CPU
    assign(leaf1.ecx, 5, false);              // VMX: no nested guests
    assign(leaf1.ecx, 15, false);             // PDCM: belongs to the performance counters of leaf 0xa
    assign(leaf1.ecx, 24, request.tsc_deadline);
    assign(leaf1.ecx, 31, true); // hypervisor
}

void filter_extended_features(Entry& leaf7, const CpuidRequest& request) {
    if (leaf7.index != 0)
        return;
    assign(leaf7.ebx, 2, false);  // SGX: no enclave memory
    assign(leaf7.ecx, 30, false); // SGX launch control
    assign(leaf7.ebx, 25, false); // processor trace
    // KVM neither emulates ENQCMD nor switches IA32_PASID; inox does both, where KVM hands over each instruction.
    assign(leaf7.ecx, 29, request.enqcmd);
    if (request.enqcmd)
        assign(leaf7.ecx, 28, true); // MOVDIR64B
}

/// Deterministic cache parameters: Intel's leaf 4 and AMD's 0x8000001d share the format.
void fill_cache(Entry& cache, const Topology& topology, bool intel) {
    if ((cache.eax & 0x1f) == 0)
        return;
    const unsigned level = cache.eax >> 5 & 7;
    assign(cache.eax, 25, 14, level >= 3 ? bit(topology.package_bits) - 1 : topology.threads_per_core - 1);
    if (intel)
        assign(cache.eax, 31, 26, bit(topology.package_bits - topology.thread_bits) - 1);
}

void fill_amd_features(Entry& entry, const Topology& topology) {
    assign(entry.ecx, 1, topology.cpus > 1); // CmpLegacy
    assign(entry.ecx, 22, true);             // TOPOEXT: without it no leaf tells of threads
    assign(entry.ecx, 2, false);             // SVM: no nested guests
    assign(entry.ecx, 23, false);            // extended performance counters, core and northbridge
    assign(entry.ecx, 24, false);
    assign(entry.ecx, 29, false); // MONITORX
}

void fill_amd_sizes(Entry& entry, const Topology& topology) {
    entry.ecx = (topology.cpus - 1) | topology.package_bits << 12; // threads of the package, bits of an APIC id
}

void fill_amd_topology(Entry& entry, const Topology& topology) {
    entry.eax = topology.apic_id;
    entry.ebx = topology.apic_id >> topology.thread_bits | (topology.threads_per_core - 1) << 8;
    entry.ecx = 0; // one node
    entry.edx = 0;
}

void clear(Entry& entry) { entry.eax = entry.ebx = entry.ecx = entry.edx = 0; }

void filter_entry(Entry& entry, const CpuidRequest& request, const Topology& topology, bool amd) {
    switch (entry.function) {
    case 0x1:
        return filter_features(entry, request, topology);
    case 0x4:
        return fill_cache(entry, topology, true);
    case 0x6: // only ARAT: no other thermal or power management reaches a guest
        entry = make(6, 0, entry.eax & bit(2), 0, 0, 0);
        return;
    case 0x7:
        return filter_extended_features(entry, request);
    case 0x5:        // MWAIT
    case 0xa:        // performance counters: a watchdog on them costs exits all the time
    case 0x12:       // SGX
    case 0x14:       // processor trace
    case 0x8000000a: // SVM
    case 0x8000001f: // memory encryption
    case 0x80000022: // performance counters
    case 0x80000026: // the host's topology once more
        return clear(entry);
    case amd_features_leaf:
        if (amd)
            fill_amd_features(entry, topology);
        return;
    case amd_sizes_leaf:
        if (amd)
            fill_amd_sizes(entry, topology);
        else
            entry.ecx = 0;
        return;
    case amd_caches_leaf:
        return fill_cache(entry, topology, false);
    case amd_topology_leaf:
        return fill_amd_topology(entry, topology);
    default:
        return;
    }
}

/// Extended topology: threads, cores, end of list.
void set_extended_topology(Entries& entries, std::uint32_t function, const Topology& topology) {
    enum : std::uint32_t { smt = 1U << 8, core = 2U << 8 };
    std::erase_if(entries, [&](const Entry& entry) { return entry.function == function; });
    const auto add = [&](std::uint32_t index, std::uint32_t shift, std::uint32_t count, std::uint32_t type) {
        Entry entry = make(function, index, shift, count, index | type, topology.apic_id);
        entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        entries.push_back(entry);
    };
    add(0, topology.thread_bits, topology.threads_per_core, smt);
    add(1, topology.package_bits, topology.cpus, core);
    add(2, 0, 0, 0);
}

/// A cache as leaves 0x80000005 and 0x80000006 have it; ways of 0: there is none.
struct LegacyCache {
    unsigned type; ///< 1 data, 2 instructions, 3 both
    unsigned level;
    std::uint32_t bytes;
    unsigned ways;
    bool fully_associative;
    unsigned line;
};

LegacyCache legacy_level1(unsigned type, std::uint32_t value) {
    constexpr unsigned full = 0xff;
    const unsigned line = value & 0xff;
    const std::uint32_t bytes = (value >> 24) * 1024;
    const unsigned ways = value >> 16 & 0xff;
    return {type, 1, bytes, ways == full && line != 0 ? bytes / line : ways, ways == full, line};
}

LegacyCache legacy_outer(unsigned level, std::uint32_t bytes, std::uint32_t value) {
    constexpr unsigned ways_of[16] = {0, 1, 2, 3, 4, 6, 8, 0, 16, 0, 32, 48, 64, 96, 128, 0};
    constexpr unsigned full = 15;
    const unsigned line = value & 0xff;
    const unsigned code = value >> 12 & 0xf;
    return {3, level, bytes, code == full && line != 0 ? bytes / line : ways_of[code], code == full, line};
}

/// With TOPOEXT, Linux reads caches from leaf 0x8000001d only. Where KVM has none, it is made from the older leaves.
void set_amd_caches(Entries& entries, const Topology& topology) {
    const Entry* known = find(entries, amd_caches_leaf);
    const Entry* level1 = find(entries, 0x80000005);
    const Entry* outer = find(entries, 0x80000006);
    if ((known && (known->eax & 0x1f) != 0) || !level1 || !outer)
        return;
    const LegacyCache caches[] = {legacy_level1(1, level1->ecx), legacy_level1(2, level1->edx),
                                  legacy_outer(2, (outer->ecx >> 16) * 1024, outer->ecx),
                                  legacy_outer(3, (outer->edx >> 18) * 512 * 1024, outer->edx)};
    std::erase_if(entries, [](const Entry& entry) { return entry.function == amd_caches_leaf; });
    std::uint32_t index = 0;
    const auto add = [&](Entry entry) {
        entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        entries.push_back(entry);
    };
    for (const LegacyCache& cache : caches) {
        const std::uint32_t set_bytes = cache.ways * cache.line;
        if (set_bytes == 0 || cache.bytes < set_bytes)
            continue;
        const std::uint32_t self_initialising = bit(8) | (cache.fully_associative ? bit(9) : 0);
        Entry entry = make(amd_caches_leaf, index++, cache.type | cache.level << 5 | self_initialising,
                           (cache.line - 1) | (cache.ways - 1) << 22, cache.bytes / set_bytes - 1, 0);
        fill_cache(entry, topology, false);
        add(entry);
    }
    add(make(amd_caches_leaf, index, 0, 0, 0, 0));
}

/// The leaves from which Linux learns of threads on AMD's CPUs, also where the host's CPU or KVM has none of them.
void set_amd_topology(Entries& entries, const Topology& topology) {
    Entry* range = find(entries, extended_leaf);
    if (!range || !find(entries, amd_features_leaf))
        return;
    range->eax = std::max(range->eax, amd_topology_leaf);
    const auto add_missing = [&](std::uint32_t leaf, auto fill) {
        if (find(entries, leaf))
            return;
        Entry entry = make(leaf, 0, 0, 0, 0, 0);
        fill(entry);
        entries.push_back(entry);
    };
    add_missing(amd_sizes_leaf, [&](Entry& entry) { fill_amd_sizes(entry, topology); });
    add_missing(amd_topology_leaf, [&](Entry& entry) { fill_amd_topology(entry, topology); });
    set_amd_caches(entries, topology);
}

void set_timing(Entries& entries, std::uint32_t tsc_khz) {
    Entry* range = find(entries, hypervisor_leaf);
    if (!range || tsc_khz == 0)
        return;
    range->eax = std::max(range->eax, hypervisor_timing_leaf);
    set(entries, make(hypervisor_timing_leaf, 0, tsc_khz, kvm_apic_bus_khz, 0, 0));
}

/// Some KVMs leave the CPU's name blank; CPUID itself has it.
void set_brand(Entries& entries) {
    const Entry* first = find(entries, brand_leaf);
    if (first && (first->eax | first->ebx | first->ecx | first->edx) != 0)
        return;
    for (std::uint32_t leaf = brand_leaf; leaf < brand_leaf + 3; ++leaf) {
        Entry entry = make(leaf, 0, 0, 0, 0, 0);
        if (__get_cpuid(leaf, &entry.eax, &entry.ebx, &entry.ecx, &entry.edx) != 0)
            set(entries, entry);
    }
}

bool is_amd(const Entry& leaf0) {
    constexpr std::uint32_t amd = 0x68747541;   // "Auth", enticAMD
    constexpr std::uint32_t hygon = 0x6f677948; // "Hygo", nGenuine
    return leaf0.ebx == amd || leaf0.ebx == hygon;
}

} // namespace

Entries guest_cpuid(Entries supported, const CpuidRequest& request) {
    const Topology topology = topology_of(request);
    Entry* leaf0 = find(supported, 0);
    const bool amd = leaf0 && is_amd(*leaf0);
    for (Entry& entry : supported)
        filter_entry(entry, request, topology, amd);

    constexpr std::uint32_t x2apic_topology = 0xb;
    constexpr std::uint32_t v2_topology = 0x1f;
    if (leaf0)
        leaf0->eax = std::max(leaf0->eax, x2apic_topology);
    if (request.enqcmd && !find(supported, 7)) {
        Entry leaf7 = make(7, 0, 0, 0, 0, 0);
        leaf7.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        filter_extended_features(leaf7, request);
        supported.push_back(leaf7);
        leaf0 = find(supported, 0);
    }
    const bool has_v2 = leaf0 && leaf0->eax >= v2_topology;
    set_extended_topology(supported, x2apic_topology, topology);
    if (has_v2)
        set_extended_topology(supported, v2_topology, topology);
    if (amd)
        set_amd_topology(supported, topology);
    set_timing(supported, request.tsc_khz);
    set_brand(supported);
    return supported;
}

Result<void> modify_cpuid(Entries& entries, const std::vector<CpuidModifier>& modifiers) {
    for (const auto& modifier : modifiers) {
        Entry* entry = find(entries, modifier.leaf, modifier.subleaf);
        if (!entry)
            return fail(
                Errc::config_value,
                format("Leaf %#x, subleaf %#x was not found in the guest's CPUID", modifier.leaf, modifier.subleaf),
                "modify leaves that this host's KVM offers");
        std::uint32_t* const registers[] = {&entry->eax, &entry->ebx, &entry->ecx, &entry->edx};
        auto& target = *registers[static_cast<std::size_t>(modifier.reg)];
        target = (target & ~modifier.mask) | (modifier.value & modifier.mask);
    }
    return {};
}

} // namespace inox::boot
