// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/enqcmd_execute.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "tests/catch.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::iommu_enqcmd_execute_test {

using namespace iommu;
using Verdict = EnqueueOutcome::Verdict;

namespace {

constexpr std::uint64_t portal = 0x8000;
constexpr std::uint64_t source = 0x4000;
constexpr std::uint64_t all_flags = 0x8d5 | cpu_bit::flags_rf | 2;

std::uint64_t page_of(std::uint64_t address) { return align_down(address, page_size); }

/// Has pages by linear address, one portal and a few PASIDs, and records what happens.
class Machine final : public EnqueueMachine {
public:
    std::expected<Gpa, CpuFault> translate(std::uint64_t linear, bool write) noexcept override {
        log.push_back({write ? "walk-write" : "walk-read", linear});
        const auto page = pages.find(page_of(linear));
        if (page == pages.end())
            return std::unexpected{CpuFault{CpuFault::pf, write ? 2U : 0U, linear}};
        return Gpa{page->second + linear % page_size};
    }
    void read(Gpa from, std::span<std::byte> to) noexcept override {
        log.push_back({"read", from.raw()});
        for (std::size_t i = 0; i < to.size(); ++i)
            to[i] = memory[from.raw() + i];
    }
    void store(Gpa to, const EnqueueCommand& bytes) noexcept override {
        log.push_back({"store", to.raw()});
        command = bytes;
    }
    bool enqueue(Gpa to, const EnqueueCommand& bytes) noexcept override {
        log.push_back({"enqueue", to.raw()});
        in_translation = held;
        command = bytes;
        return accept;
    }
    bool with_pasid(GuestPasid guest, const std::function<void(HostPasid)>& submit) noexcept override {
        const auto found = pasids.find(guest);
        if (found == pasids.end())
            return false;
        held = true;
        submit(found->second);
        held = false;
        return true;
    }

    bool did(const std::string& what) const {
        return std::ranges::any_of(log, [&](const auto& entry) { return entry.first == what; });
    }

    std::map<std::uint64_t, std::uint64_t> pages{};
    std::map<std::uint64_t, std::byte> memory{};
    std::map<GuestPasid, HostPasid> pasids{{GuestPasid{5}, HostPasid{0x12345}}};
    std::vector<std::pair<std::string, std::uint64_t>> log{};
    EnqueueCommand command{};
    bool accept{true};
    bool held{};
    bool in_translation{};
};

struct Bench {
    Machine machine{};
    CpuState cpu{};
    EnqueueInstruction instruction{};

    explicit Bench(EnqueueKind kind = EnqueueKind::enqcmd) {
        instruction.kind = kind;
        instruction.length = 5;
        instruction.address_bytes = 8;
        instruction.destination = 0;
        instruction.base = 6;
        cpu.registers[0] = portal;
        cpu.registers[6] = source;
        cpu.rip = 0x1000;
        cpu.rflags = all_flags;
        cpu.cr0 = cpu_bit::cr0_pe;
        cpu.ia32_pasid = ia32_pasid_valid | 5;
        machine.pages = {{portal, 0xfe008000}, {source, 0x24000}, {source + 0x1000, 0x99000}};
        fill(0x24000, 0x1000);
        fill(0x99000, 0x1000);
        head(0x24000, 0);
    }
    void fill(std::uint64_t from, std::uint64_t size) {
        for (std::uint64_t i = 0; i < size; ++i)
            machine.memory[from + i] = static_cast<std::byte>(i * 7 + from / 0x1000);
    }
    void head(std::uint64_t at, std::uint32_t value) {
        for (unsigned i = 0; i < 4; ++i)
            machine.memory[at + i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
    }
    EnqueueOutcome run() {
        machine.log.clear();
        return execute_enqueue(instruction, cpu, machine);
    }
    void check_fault(CpuFault fault) {
        const auto out = run();
        CHECK(out.verdict == Verdict::fault);
        CHECK(out.fault == fault);
        CHECK_FALSE(machine.did("enqueue"));
        CHECK_FALSE(machine.did("store"));
    }
    std::uint32_t sent() const { return load_le<std::uint32_t>(machine.command); }
};

constexpr CpuFault gp0{CpuFault::gp, 0, {}};

} // namespace

TEST_CASE("ENQCMD sends the source with the host's PASID, clears flags and goes on behind itself") {
    Bench bench;
    const auto out = bench.run();
    CHECK(out.verdict == Verdict::retired);
    CHECK(out.accepted);
    CHECK(out.rip == 0x1005);
    CHECK(out.rflags == 2);
    CHECK(out.pasid == GuestPasid{5});
    CHECK(bench.sent() == 0x12345);
    CHECK(bench.machine.in_translation);
    CHECK(bench.machine.log.back() == std::pair<std::string, std::uint64_t>{"enqueue", 0xfe008000});
    for (std::size_t i = 4; i < enqueue_size; ++i)
        REQUIRE(bench.machine.command[i] == bench.machine.memory[0x24000 + i]);
}

TEST_CASE("retry sets ZF and nothing else") {
    Bench bench;
    bench.machine.accept = false;
    const auto out = bench.run();
    CHECK(out.verdict == Verdict::retired);
    CHECK_FALSE(out.accepted);
    CHECK(out.rflags == (2 | cpu_bit::flags_zf));
}

TEST_CASE("ENQCMDS takes PASID and privilege from the source") {
    Bench bench{EnqueueKind::enqcmds};
    bench.cpu.ia32_pasid = 0;
    bench.head(0x24000, 0x80000005);
    CHECK(bench.run().verdict == Verdict::retired);
    CHECK(bench.sent() == 0x80012345);
}

TEST_CASE("MOVDIR64B stores the source as it is and leaves the flags") {
    Bench bench{EnqueueKind::movdir64b};
    bench.cpu.ia32_pasid = 0;
    bench.cpu.cpl = 3;
    bench.head(0x24000, 0xffffffff);
    const auto out = bench.run();
    CHECK(out.verdict == Verdict::retired);
    CHECK(out.rflags == (all_flags & ~cpu_bit::flags_rf));
    CHECK(bench.sent() == 0xffffffff);
    CHECK(bench.machine.did("store"));
}

TEST_CASE("each broken rule has its exception, and nothing reaches the queue") {
    SECTION("LOCK") {
        Bench bench;
        bench.instruction.lock = true;
        bench.check_fault({CpuFault::ud, {}, {}});
    }
    SECTION("ENQCMDS outside ring 0") {
        Bench bench{EnqueueKind::enqcmds};
        bench.cpu.cpl = 3;
        bench.check_fault(gp0);
        CHECK(bench.machine.log.empty());
    }
    SECTION("ENQCMD without a valid IA32_PASID") {
        Bench bench;
        bench.cpu.ia32_pasid = 5;
        bench.check_fault(gp0);
        CHECK(bench.machine.log.empty());
    }
    SECTION("misaligned destination") {
        for (const auto kind : {EnqueueKind::enqcmd, EnqueueKind::enqcmds, EnqueueKind::movdir64b}) {
            Bench bench{kind};
            bench.cpu.registers[0] += 32;
            bench.check_fault(gp0);
        }
    }
    SECTION("ENQCMD with a source that names a PASID") {
        Bench bench;
        bench.head(0x24000, 5);
        bench.check_fault(gp0);
        bench.head(0x24000, 1U << 31);
        bench.check_fault(gp0);
    }
    SECTION("ENQCMDS with reserved bits") {
        for (unsigned bit = 20; bit < 31; ++bit) {
            Bench bench{EnqueueKind::enqcmds};
            bench.head(0x24000, 5U | 1U << bit);
            bench.check_fault(gp0);
        }
    }
    SECTION("source not mapped, and its second page") {
        Bench bench;
        bench.cpu.registers[6] = 0x6000;
        bench.check_fault({CpuFault::pf, 0, 0x6000});
        bench.cpu.registers[6] = 0x5ff0;
        bench.check_fault({CpuFault::pf, 0, 0x6000});
        CHECK_FALSE(bench.machine.did("read"));
    }
    SECTION("destination not mapped") {
        Bench bench;
        bench.cpu.registers[0] = 0x7000;
        bench.check_fault({CpuFault::pf, 2, 0x7000});
    }
}

TEST_CASE("an earlier rule wins over a later one") {
    // Each step repairs the first violation; then the fault of the next one must appear.
    Bench bench{EnqueueKind::enqcmds};
    bench.instruction.lock = true;
    bench.cpu.cpl = 3;
    bench.cpu.registers[0] = 0x7020;
    bench.cpu.registers[6] = 0x6000;
    bench.head(0x24000, 1U << 20 | 9);
    bench.check_fault({CpuFault::ud, {}, {}});
    bench.instruction.lock = false;
    bench.check_fault(gp0);
    CHECK(bench.machine.log.empty());
    bench.cpu.cpl = 0;
    bench.check_fault(gp0);
    CHECK(bench.machine.log.empty()); // alignment is checked before the source is read
    bench.cpu.registers[0] = 0x7000;
    bench.check_fault({CpuFault::pf, 0, 0x6000});
    bench.cpu.registers[6] = source;
    bench.check_fault(gp0); // reserved bits, before the destination is looked up
    CHECK_FALSE(bench.machine.did("walk-write"));
    bench.head(0x24000, 9);
    CHECK(bench.run().verdict == Verdict::no_translation); // before the store
    CHECK_FALSE(bench.machine.did("walk-write"));
    bench.head(0x24000, 5);
    bench.check_fault({CpuFault::pf, 2, 0x7000});
    bench.cpu.registers[0] = portal;
    CHECK(bench.run().accepted);
}

TEST_CASE("a PASID without a translation is a general protection fault that names it") {
    Bench bench;
    bench.cpu.ia32_pasid = ia32_pasid_valid | 0xfffff;
    const auto out = bench.run();
    CHECK(out.verdict == Verdict::no_translation);
    CHECK(out.fault == gp0);
    CHECK(out.pasid == GuestPasid{0xfffff});
    CHECK_FALSE(bench.machine.did("enqueue"));
}

TEST_CASE("a source across two pages is read from both") {
    Bench bench;
    bench.cpu.registers[6] = source + 0xff0;
    bench.head(0x24ff0, 0);
    CHECK(bench.run().accepted);
    for (std::size_t i = 4; i < 16; ++i)
        REQUIRE(bench.machine.command[i] == bench.machine.memory[0x24ff0 + i]);
    for (std::size_t i = 16; i < enqueue_size; ++i)
        REQUIRE(bench.machine.command[i] == bench.machine.memory[0x99000 + i - 16]);
}

TEST_CASE("addresses that are not canonical fault by their segment") {
    Bench bench;
    bench.cpu.registers[6] = 0x800000000000;
    bench.check_fault(gp0);
    bench.instruction.segment = SegmentName::ss;
    bench.check_fault({CpuFault::ss, 0, {}});
    bench.cpu.registers[6] = 0x7fffffffffe0; // only its end is not canonical
    bench.check_fault({CpuFault::ss, 0, {}});
    bench.instruction.segment = SegmentName::ds;
    bench.cpu.registers[6] = source;
    bench.cpu.registers[0] = 0x800000000000;
    bench.check_fault(gp0);
    bench.cpu.cr4 = cpu_bit::cr4_la57; // canonical with five levels
    bench.check_fault({CpuFault::pf, 2, 0x800000000000});
}

TEST_CASE("in 64-bit code only FS and GS have a base") {
    Bench bench;
    for (auto& segment : bench.cpu.segments) {
        segment.base = 0x1000;
        segment.usable = segment.readable = segment.writable = false;
        segment.limit = 0;
    }
    CHECK(bench.run().accepted);
    bench.instruction.segment = SegmentName::gs;
    bench.cpu.registers[6] = source - 0x1000;
    CHECK(bench.run().accepted);
}

TEST_CASE("the source is base, scaled index and displacement, cut to the address size") {
    Bench bench;
    bench.instruction.index = 1;
    bench.instruction.shift = 3;
    bench.instruction.displacement = -64;
    bench.cpu.registers[6] = source - 64;
    bench.cpu.registers[1] = 16;
    CHECK(bench.run().accepted);
    bench.instruction.address_bytes = 4;
    bench.cpu.registers[6] = 0xabcd00000000 | (source - 64);
    bench.cpu.registers[0] = 0xabcd00000000 | portal;
    CHECK(bench.run().accepted);
    bench.instruction.base = bench.instruction.index = EnqueueInstruction::none;
    bench.instruction.rip_relative = true;
    bench.instruction.displacement = static_cast<std::int32_t>(source - 0x1005);
    CHECK(bench.run().accepted);
}

TEST_CASE("32-bit code obeys segment limits and types") {
    Bench bench;
    bench.cpu.code = CodeSize::bits32;
    bench.instruction.address_bytes = 4;
    auto& ds = bench.cpu.segments[static_cast<std::size_t>(SegmentName::ds)];
    auto& es = bench.cpu.segments[static_cast<std::size_t>(SegmentName::es)];
    CHECK(bench.run().accepted);
    ds.base = 0x1000;
    ds.limit = source - 0x1000 + 63;
    bench.cpu.registers[6] = source - 0x1000;
    CHECK(bench.run().accepted);
    --ds.limit;
    bench.check_fault(gp0);
    ++ds.limit;
    ds.readable = false;
    bench.check_fault(gp0);
    ds.readable = true;
    es.writable = false;
    bench.check_fault(gp0);
    es.writable = true;
    es.usable = false;
    bench.check_fault(gp0);
    es.usable = true;
    ds.expand_down = true;
    ds.limit = static_cast<std::uint32_t>(source - 0x1000 - 1);
    CHECK(bench.run().accepted);
    ++ds.limit;
    bench.check_fault(gp0);
}

TEST_CASE("in real mode faults have no error code") {
    Bench bench;
    bench.cpu.cr0 = 0;
    bench.cpu.code = CodeSize::bits16;
    bench.instruction.address_bytes = 2;
    for (auto& segment : bench.cpu.segments)
        segment.limit = 0xffff;
    bench.cpu.registers[6] = 0xffd0;
    bench.check_fault({CpuFault::gp, {}, {}});
    bench.cpu.registers[6] = source;
    CHECK(bench.run().accepted);
}

TEST_CASE("IA32_PASID takes a PASID and its valid bit, nothing else") {
    CHECK(ia32_pasid_writable(0));
    CHECK(ia32_pasid_writable(0x800fffff));
    for (unsigned bit = 20; bit < 64; ++bit)
        CHECK(ia32_pasid_writable(1ULL << bit) == (bit == 31));
}

} // namespace inox::iommu_enqcmd_execute_test
