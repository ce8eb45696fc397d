// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu_state.hpp"

#include "tests/catch.hpp"
#include "vmm/base/state.hpp"
#include "vmm/kvm/vm_state.hpp"

namespace inox::vcpu_state_test {
namespace {

using Table = std::vector<kvm_cpuid_entry2>;

kvm_cpuid_entry2 leaf(std::uint32_t function, std::uint32_t eax, std::uint32_t ebx, std::uint32_t ecx,
                      std::uint32_t edx) {
    kvm_cpuid_entry2 entry{};
    entry.function = function;
    entry.flags = function == 7 || function == 0xd ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    entry.eax = eax;
    entry.ebx = ebx;
    entry.ecx = ecx;
    entry.edx = edx;
    return entry;
}

const kvm_cpuid_entry2 amd = leaf(0, 1, 0x68747541, 0x444d4163, 0x69746e65);

} // namespace

TEST_CASE("a vCPU's state is restored as it was saved") {
    VcpuState cpu;
    cpu.mp.mp_state = 3;
    cpu.regs.rip = 0x1234;
    cpu.sregs.cr3 = 0x5000;
    cpu.has_sregs2 = true;
    cpu.sregs2.pdptrs[3] = 9;
    cpu.xsave.resize(4096, std::byte{7});
    cpu.lapic.regs[1023] = 'x';
    cpu.msrs.push_back({0x10, 0, 77});
    cpu.events.nmi.pending = 1;
    cpu.cpuid = {amd};
    cpu.tsc_khz = 2'000'000;
    cpu.ia32_pasid = 5;
    State saved;
    cpu.state(saved);
    const auto value = saved.take();
    VcpuState other;
    State state{value, "vcpu0"};
    other.state(state);
    REQUIRE(state.result());
    CHECK(other.regs.rip == 0x1234);
    CHECK(other.msrs.size() == 1);
    CHECK(other.msrs[0].data == 77);
    State again;
    other.state(again);
    CHECK(again.take() == value);
}

TEST_CASE("a vCPU without CPUID, with half an MSR, or with a short XSAVE area is refused") {
    VcpuState cpu;
    cpu.cpuid = {amd};
    const auto refused = [&](const char* name, std::size_t bytes) {
        State saved;
        cpu.state(saved);
        auto value = saved.take();
        value[name] = nlohmann::json::binary(std::vector<std::uint8_t>(bytes));
        State state{std::move(value), "vcpu0"};
        VcpuState other;
        other.state(state);
        return !state.result();
    };
    CHECK(refused("msrs", 17));
    CHECK(refused("xsave", 100));
    CHECK(refused("cpuid", 0));
    CHECK(refused("regs", 8));
    CHECK_FALSE(refused("msrs", 32));
}

TEST_CASE("each feature that a host lacks is named, with its place") {
    const Table saved{amd, leaf(1, 0, 0, 1U << 28 | 1U << 27, 0), leaf(7, 0, 1U << 16 | 1U << 5, 0, 0),
                      leaf(0x80000008, 48, 0, 0, 0)};
    CHECK(missing_cpuid(saved, saved).empty());
    const Table host{amd, leaf(1, 0, 0, 0, 0), leaf(7, 0, 1U << 5, 0, 0), leaf(0x80000008, 40, 0, 0, 0)};
    const auto missing = missing_cpuid(saved, host);
    REQUIRE(missing.size() == 3); // OSXSAVE is the guest's own
    CHECK(missing[0] == "avx (leaf 1.0 ECX bit 28)");
    CHECK(missing[1] == "avx512f (leaf 7.0 EBX bit 16)");
    CHECK(missing[2] == "physical addresses of 48 bits (this CPU has 40)");
    const Table intel{leaf(0, 1, 0x756e6547, 0x6c65746e, 0x49656e69)};
    const auto other = missing_cpuid(Table{amd}, intel);
    REQUIRE(other.size() == 1);
    CHECK(other[0] == "a CPU of AuthenticAMD (this one is of GenuineIntel)");
}

TEST_CASE("interrupt chips and clock are restored as they were saved") {
    VmState vm;
    vm.chips[2].chip.ioapic.redirtbl[3].bits = 0x1234;
    vm.clock = 99;
    vm.tsc = 98;
    vm.wall = 100;
    State saved;
    vm.state(saved);
    State state{saved.take(), "vm"};
    VmState other;
    other.state(state);
    REQUIRE(state.result());
    CHECK(other.chips[2].chip.ioapic.redirtbl[3].bits == 0x1234);
    CHECK(other.chips[2].chip_id == 2);
    CHECK(other.clock == 99);
    CHECK(other.tsc == 98);
}

} // namespace inox::vcpu_state_test
