// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/enqueue_emulator.hpp"

#include "tests/catch.hpp"

namespace inox::enqueue_emulator_test {

namespace {

kvm_segment make(std::uint64_t base, std::uint8_t type, std::uint8_t dpl = 0, std::uint8_t db = 1) {
    kvm_segment out{};
    out.base = base;
    out.limit = 0xffff;
    out.type = type;
    out.present = 1;
    out.dpl = dpl;
    out.db = db;
    out.s = 1;
    return out;
}

kvm_sregs protected_mode() {
    kvm_sregs out{};
    out.cr0 = 1;
    out.cs = make(0, 0xb);
    out.ds = make(0x1000, 0x3);
    out.es = make(0, 0x1); // read-only data
    out.fs = make(0, 0x7); // expand-down, writable
    out.gs = make(0, 0x9); // execute-only code
    out.ss = make(0, 0x3, 2);
    return out;
}

} // namespace

TEST_CASE("registers are taken in the encoding's order") {
    kvm_regs regs{};
    regs.rax = 0;
    regs.rcx = 1;
    regs.rdx = 2;
    regs.rbx = 3;
    regs.rsp = 4;
    regs.rbp = 5;
    regs.rsi = 6;
    regs.rdi = 7;
    regs.r8 = 8;
    regs.r9 = 9;
    regs.r10 = 10;
    regs.r11 = 11;
    regs.r12 = 12;
    regs.r13 = 13;
    regs.r14 = 14;
    regs.r15 = 15;
    regs.rip = 0x1000;
    const auto cpu = cpu_state(regs, protected_mode(), 0x80000005);
    for (std::size_t i = 0; i < 16; ++i)
        CHECK(cpu.registers[i] == i);
    CHECK(cpu.rip == 0x1000);
    CHECK(cpu.ia32_pasid == 0x80000005);
}

TEST_CASE("mode, privilege and segment rights come from the hidden parts of the segments") {
    kvm_regs regs{};
    auto sregs = protected_mode();
    auto cpu = cpu_state(regs, sregs, 0);
    CHECK(cpu.code == iommu::CodeSize::bits32);
    CHECK(cpu.cpl == 2);
    using enum iommu::SegmentName;
    const auto& segment = [&](iommu::SegmentName name) -> const iommu::CpuSegment& {
        return cpu.segments[static_cast<std::size_t>(name)];
    };
    CHECK(segment(ds).base == 0x1000);
    CHECK(segment(ds).writable);
    CHECK_FALSE(segment(es).writable);
    CHECK(segment(es).readable);
    CHECK(segment(fs).expand_down);
    CHECK(segment(cs).readable);
    CHECK_FALSE(segment(cs).writable);
    CHECK_FALSE(segment(cs).expand_down);
    CHECK_FALSE(segment(gs).readable);

    sregs.cs.db = 0;
    sregs.ds.unusable = 1;
    cpu = cpu_state(regs, sregs, 0);
    CHECK(cpu.code == iommu::CodeSize::bits16);
    CHECK_FALSE(segment(ds).usable);

    sregs.efer = 1U << 10;
    sregs.cs.l = 1;
    CHECK(cpu_state(regs, sregs, 0).code == iommu::CodeSize::bits64);
    sregs.cs.l = 0;
    sregs.cs.db = 1;
    CHECK(cpu_state(regs, sregs, 0).code == iommu::CodeSize::bits32); // compatibility mode

    regs.rflags = 1U << 17; // virtual 8086
    cpu = cpu_state(regs, protected_mode(), 0);
    CHECK(cpu.cpl == 3);
    CHECK(segment(es).writable);

    sregs.cr0 = 0;
    regs.rflags = 0;
    cpu = cpu_state(regs, sregs, 0);
    CHECK(cpu.cpl == 0);
    CHECK(segment(gs).writable);
}

TEST_CASE("the paging mode follows the control registers") {
    constexpr std::uint64_t pg = 1U << 31, wp = 1U << 16, pse = 1U << 4, pae = 1U << 5, lma = 1U << 10, nxe = 1U << 11;
    kvm_sregs sregs{};
    sregs.cr3 = 0x123460;
    const auto paging = [&] { return cpu_paging({}, sregs, 39); };
    sregs.cr0 = 1;
    sregs.cr4 = pae;
    CHECK_FALSE(paging());
    sregs.cr0 |= pg;
    sregs.cr4 = 0;
    sregs.efer = nxe; // has an effect with PAE only
    REQUIRE(paging());
    CHECK(paging()->mode == iommu::PagingMode::bits32);
    CHECK(paging()->root == 0x123460);
    CHECK_FALSE(paging()->four_mib_pages);
    CHECK_FALSE(paging()->execute_disable);
    CHECK_FALSE(paging()->write_protect);
    CHECK(paging()->physical_bits == 39);
    sregs.cr4 = pse;
    sregs.cr0 |= wp;
    CHECK(paging()->four_mib_pages);
    CHECK(paging()->write_protect);
    sregs.cr4 = pae;
    CHECK(paging()->mode == iommu::PagingMode::pae);
    CHECK(paging()->execute_disable);
    sregs.efer = lma;
    CHECK(paging()->mode == iommu::PagingMode::long_mode);
    CHECK_FALSE(paging()->execute_disable);
}

} // namespace inox::enqueue_emulator_test
