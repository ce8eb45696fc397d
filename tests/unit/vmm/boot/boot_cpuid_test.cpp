// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cpuid.hpp"

#include <optional>

#include "tests/catch.hpp"

namespace inox::boot_cpuid_test {

using namespace inox::boot;

namespace {

using Leaves = std::vector<kvm_cpuid_entry2>;

struct Registers {
    std::uint32_t eax, ebx, ecx, edx;
    bool operator==(const Registers&) const = default;
};

void add(Leaves& leaves, std::uint32_t function, std::uint32_t index, Registers r) {
    kvm_cpuid_entry2 leaf{};
    leaf.function = function;
    leaf.index = index;
    leaf.eax = r.eax;
    leaf.ebx = r.ebx;
    leaf.ecx = r.ecx;
    leaf.edx = r.edx;
    leaves.push_back(leaf);
}

std::optional<Registers> get(const Leaves& leaves, std::uint32_t function, std::uint32_t index = 0) {
    for (const auto& leaf : leaves)
        if (leaf.function == function && leaf.index == index)
            return Registers{leaf.eax, leaf.ebx, leaf.ecx, leaf.edx};
    return std::nullopt;
}

constexpr std::uint32_t all = ~0U;
constexpr std::uint32_t bit(unsigned number) { return 1U << number; }

Leaves host(bool amd) {
    Leaves leaves;
    if (amd)
        add(leaves, 0, 0, {0xd, 0x68747541, 0x444d4163, 0x69746e65});
    else
        add(leaves, 0, 0, {0x20, 0x756e6547, 0x6c65746e, 0x49656e69});
    for (const std::uint32_t leaf : {1U, 5U, 6U, 7U, 0xaU, 0x12U, 0x14U, 0x80000001U, 0x80000008U, 0x8000000aU,
                                     0x8000001eU, 0x8000001fU, 0x80000022U, 0x80000026U})
        add(leaves, leaf, 0, {all, all, all, all});
    add(leaves, 4, 0, {0x121, 1, 2, 3}); // level 1 data
    add(leaves, 4, 1, {0x163, 1, 2, 3}); // level 3 unified
    add(leaves, 4, 2, {0, 0, 0, 0});
    add(leaves, 0x8000001d, 0, {0x163, 1, 2, 3});
    add(leaves, 0x80000000, 0, {0x80000026, 0, 0, 0});
    add(leaves, 0x40000000, 0, {0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d});
    add(leaves, 0x40000001, 0, {0x01007efb, 0, 0, 0});
    return leaves;
}

} // namespace

TEST_CASE("each vCPU has its own APIC id in every leaf that tells it") {
    for (const unsigned cpu : {0U, 3U, 31U}) {
        const auto leaves = guest_cpuid(host(true), {.cpu = cpu, .cpus = 32});
        CHECK(get(leaves, 1)->ebx >> 24 == cpu);
        CHECK(get(leaves, 0xb, 0)->edx == cpu);
        CHECK(get(leaves, 0xb, 1)->edx == cpu);
        CHECK(get(leaves, 0x8000001e)->eax == cpu);
    }
}

TEST_CASE("vCPUs are cores of one package") {
    const auto leaves = guest_cpuid(host(false), {.cpu = 2, .cpus = 6});
    CHECK((get(leaves, 1)->ebx >> 16 & 0xff) == 8); // ids a package can hold: a power of two
    CHECK((get(leaves, 1)->edx & bit(28)) != 0);
    CHECK(get(leaves, 0xb, 0) == Registers{0, 1, 0x100, 2});
    CHECK(get(leaves, 0xb, 1) == Registers{3, 6, 0x201, 2});
    CHECK(get(leaves, 0xb, 2) == Registers{0, 0, 2, 2});
    CHECK(get(leaves, 0x1f, 1) == get(leaves, 0xb, 1));
    CHECK(get(leaves, 4, 0)->eax == (0x121 | 0U << 14 | 7U << 26));
    CHECK(get(leaves, 4, 1)->eax == (0x163 | 7U << 14 | 7U << 26));
    CHECK(get(leaves, 4, 2)->eax == 0);
    CHECK_FALSE(get(guest_cpuid(host(true), {.cpus = 6}), 0x1f, 0)); // beyond the host's last basic leaf
}

TEST_CASE("with SMT, pairs of vCPUs share a core") {
    const auto leaves = guest_cpuid(host(false), {.cpu = 3, .cpus = 4, .smt = true});
    CHECK(get(leaves, 0xb, 0) == Registers{1, 2, 0x100, 3});
    CHECK(get(leaves, 0xb, 1) == Registers{2, 4, 0x201, 3});
    CHECK(get(leaves, 4, 0)->eax == (0x121 | 1U << 14 | 1U << 26));
    const auto amd = guest_cpuid(host(true), {.cpu = 3, .cpus = 4, .smt = true});
    CHECK(get(amd, 0x8000001e) == Registers{3, 1 | 1 << 8, 0, 0});
    CHECK(get(amd, 0x8000001d)->eax == (0x163 | 3U << 14));
    CHECK(get(amd, 0x80000008)->ecx == (3 | 2U << 12));
}

namespace {

struct Place {
    unsigned package, core, thread;
    bool operator==(const Place&) const = default;
};

/// By leaf 0xb or 0x1f: Linux's detect_extended_topology(), for Intel's CPUs.
Place place_by_topology_leaf(const Leaves& leaves, std::uint32_t leaf) {
    const unsigned id = get(leaves, leaf, 0)->edx;
    const unsigned thread_bits = get(leaves, leaf, 0)->eax & 0x1f;
    const unsigned package_bits = get(leaves, leaf, 1)->eax & 0x1f;
    return {id >> package_bits, (id & (bit(package_bits) - 1)) >> thread_bits, id & (bit(thread_bits) - 1)};
}

/// By leaves 0x80000001, 0x80000008 and 0x8000001e: Linux's amd_get_topology().
Place place_by_amd_leaves(const Leaves& leaves) {
    const unsigned id = get(leaves, 1)->ebx >> 24;
    const unsigned package_bits = get(leaves, 0x80000008)->ecx >> 12 & 0xf;
    REQUIRE((get(leaves, 0x80000001)->ecx & bit(22)) != 0);
    REQUIRE(get(leaves, 0x80000000)->eax >= 0x8000001e);
    const auto topology = get(leaves, 0x8000001e);
    REQUIRE(topology->eax == id);
    const unsigned threads = (topology->ebx >> 8 & 0xff) + 1;
    return {id >> package_bits, topology->ebx & 0xff, id % threads};
}

/// How many neighbours share a cache: Linux divides APIC ids by the number rounded up to a power of two.
unsigned sharing(const Registers& cache) { return (cache.eax >> 14 & 0xfff) + 1; }

/// KVM's answer on an AMD CPU without TOPOEXT: nested under an emulated CPU, or older than family 17h.
Leaves host_without_topoext() {
    Leaves leaves;
    add(leaves, 0, 0, {0xd, 0x68747541, 0x444d4163, 0x69746e65});
    add(leaves, 1, 0, {0x00800f12, 0, 0, 0});
    add(leaves, 0x80000000, 0, {0x8000000a, 0, 0, 0});
    add(leaves, 0x80000001, 0, {0, 0, 0, 0});
    add(leaves, 0x80000005, 0, {0, 0, 0x20080140, 0x40040140});
    add(leaves, 0x80000006, 0, {0, 0, 0x02006140, 0x00808140});
    return leaves;
}

} // namespace

TEST_CASE("both vendors' leaves say the topology that was asked for") {
    for (const unsigned cpus : {1U, 2U, 6U, 8U, 64U, 254U})
        for (const bool smt : {false, true})
            for (unsigned cpu = 0; cpu < cpus; ++cpu) {
                const CpuidRequest request{.cpu = cpu, .cpus = cpus, .smt = smt};
                const unsigned threads = smt && cpus > 1 ? 2 : 1;
                const Place wanted{0, cpu / threads, cpu % threads};
                INFO(cpus << " CPUs, SMT " << smt << ", CPU " << cpu);
                const auto intel = guest_cpuid(host(false), request);
                REQUIRE(place_by_topology_leaf(intel, 0xb) == wanted);
                REQUIRE(place_by_topology_leaf(intel, 0x1f) == wanted);
                REQUIRE(sharing(*get(intel, 4, 0)) == threads);
                REQUIRE(sharing(*get(intel, 4, 1)) >= cpus);
                for (const auto& amd :
                     {guest_cpuid(host(true), request), guest_cpuid(host_without_topoext(), request)}) {
                    REQUIRE(place_by_amd_leaves(amd) == wanted);
                    REQUIRE(place_by_topology_leaf(amd, 0xb) == wanted);
                    REQUIRE((get(amd, 0x80000008)->ecx & 0xff) + 1 == cpus);
                }
            }
}

TEST_CASE("an AMD CPU without cache leaf 0x8000001d gets one that says what its older leaves say") {
    const auto leaves = guest_cpuid(host_without_topoext(), {.cpu = 3, .cpus = 4, .smt = true});
    const auto size = [](const Registers& r) {
        return ((r.ebx & 0xfff) + 1) * ((r.ebx >> 22) + 1) * (r.ecx + 1) / 1024;
    };
    const auto kind = [](const Registers& r) { return std::pair{r.eax & 0x1f, r.eax >> 5 & 7}; };
    using Kind = std::pair<unsigned, unsigned>;
    CHECK(kind(*get(leaves, 0x8000001d, 0)) == Kind{1, 1});
    CHECK(size(*get(leaves, 0x8000001d, 0)) == 32);
    CHECK(kind(*get(leaves, 0x8000001d, 1)) == Kind{2, 1});
    CHECK(size(*get(leaves, 0x8000001d, 1)) == 64);
    CHECK(kind(*get(leaves, 0x8000001d, 2)) == Kind{3, 2});
    CHECK(size(*get(leaves, 0x8000001d, 2)) == 512);
    CHECK(sharing(*get(leaves, 0x8000001d, 2)) == 2);
    CHECK(kind(*get(leaves, 0x8000001d, 3)) == Kind{3, 3});
    CHECK(size(*get(leaves, 0x8000001d, 3)) == 16 * 1024);
    CHECK(sharing(*get(leaves, 0x8000001d, 3)) == 4);
    CHECK(get(leaves, 0x8000001d, 4) == Registers{0, 0, 0, 0});
}

TEST_CASE("one vCPU is a package of one, with or without SMT") {
    for (const bool smt : {false, true}) {
        const auto leaves = guest_cpuid(host(true), {.cpu = 0, .cpus = 1, .smt = smt});
        CHECK((get(leaves, 1)->ebx >> 16 & 0xff) == 1);
        CHECK((get(leaves, 1)->edx & bit(28)) == 0);
        CHECK(get(leaves, 0xb, 0) == Registers{0, 1, 0x100, 0});
        CHECK(get(leaves, 0xb, 1) == Registers{0, 1, 0x201, 0});
        CHECK(get(leaves, 0x80000008)->ecx == 0);
        CHECK((get(leaves, 0x80000001)->ecx & bit(1)) == 0);
    }
}

TEST_CASE("a guest is told of the hypervisor and not of what it cannot use") {
    const auto leaves = guest_cpuid(host(true), {});
    const std::uint32_t features = get(leaves, 1)->ecx;
    CHECK((features & bit(31)) != 0); // hypervisor
    CHECK((features & bit(21)) != 0); // x2APIC stays
    CHECK((features & bit(24)) != 0); // TSC deadline
    CHECK((features & (bit(3) | bit(5) | bit(15))) == 0);
    CHECK((get(leaves, 7)->ecx & bit(29)) == 0); // ENQCMD
    CHECK((get(leaves, 7)->ebx & (bit(2) | bit(25))) == 0);
    CHECK(get(leaves, 6) == Registers{4, 0, 0, 0});
    for (const std::uint32_t hidden : {5U, 0xaU, 0x12U, 0x14U, 0x8000000aU, 0x8000001fU, 0x80000022U, 0x80000026U})
        CHECK(get(leaves, hidden) == Registers{0, 0, 0, 0});
    CHECK((get(leaves, 0x80000001)->ecx & (bit(2) | bit(23) | bit(24) | bit(29))) == 0);
    CHECK((get(guest_cpuid(host(true), {.tsc_deadline = false}), 1)->ecx & bit(24)) == 0);
}

TEST_CASE("kvmclock's leaves stay as KVM gives them, the TSC rate joins them when known") {
    const auto unknown = guest_cpuid(host(true), {});
    CHECK(get(unknown, 0x40000000)->eax == 0x40000001);
    CHECK(get(unknown, 0x40000001)->eax == 0x01007efb);
    CHECK_FALSE(get(unknown, 0x40000010));
    const auto known = guest_cpuid(host(true), {.tsc_khz = 2500000});
    CHECK(get(known, 0x40000000)->eax == 0x40000010);
    CHECK(get(known, 0x40000000)->ebx == 0x4b4d564b);
    CHECK(get(known, 0x40000010)->eax == 2500000);
}

TEST_CASE("topology leaves are there even when the host's CPUID ends before them") {
    Leaves leaves;
    add(leaves, 0, 0, {7, 0x756e6547, 0, 0});
    const auto guest = guest_cpuid(leaves, {.cpu = 1, .cpus = 2});
    CHECK(get(guest, 0)->eax == 0xb);
    CHECK(get(guest, 0xb, 1) == Registers{1, 2, 0x201, 1});
    CHECK(guest_cpuid({}, {.cpus = 2}).size() >= 3);
}

TEST_CASE("a CPU name that KVM gives is kept, a blank one is filled in") {
    Leaves named = host(true);
    add(named, 0x80000002, 0, {1, 2, 3, 4});
    CHECK(get(guest_cpuid(named, {}), 0x80000002) == Registers{1, 2, 3, 4});
    Leaves blank = host(true);
    add(blank, 0x80000002, 0, {0, 0, 0, 0});
    CHECK(get(guest_cpuid(blank, {}), 0x80000004));
}

TEST_CASE("a guest's address bits are the host's: windows for BARs are placed by them") {
    CHECK(get(guest_cpuid(host(true), {.cpus = 2}), 0x80000008)->eax == all);
    CHECK(get(guest_cpuid(host(false), {.cpus = 2}), 0x80000008)->eax == all);
}

} // namespace inox::boot_cpuid_test
