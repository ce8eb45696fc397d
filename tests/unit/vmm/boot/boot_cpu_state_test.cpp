// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cpu_state.hpp"

#include "tests/catch.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot_cpu_state_test {

using namespace inox::boot;

namespace {

std::uint64_t read64(const GuestMemory& memory, Gpa address) { return *memory.read<Le64>(address); }

/// Walks the boot page tables as the CPU does (SDM volume 3, 4.5).
std::optional<Gpa> translate(const GuestMemory& memory, std::uint64_t address) {
    Gpa table = layout::boot_page_tables;
    for (const unsigned shift : {39U, 30U, 21U}) {
        const std::uint64_t entry = read64(memory, table + 8 * (address >> shift & 511));
        if ((entry & 1) == 0)
            return std::nullopt;
        if ((entry & 0x80) != 0)
            return Gpa{(entry & ~0x1fffffUL) + (address & 0x1fffff)};
        table = Gpa{entry & ~0xfffUL};
    }
    return std::nullopt;
}

} // namespace

TEST_CASE("a Linux entry starts in 64-bit mode with boot_params in RSI") {
    kvm_sregs sregs{};
    sregs.apic_base = 0xfee00900;
    sregs.cr0 = 0x60000010;
    kvm_regs regs{};
    regs.rax = 1;
    set_initial_state({Entry::Mode::linux64, Gpa{0x1000200}, Gpa{0x7000}}, sregs, regs);
    CHECK(regs.rip == 0x1000200);
    CHECK(regs.rsi == 0x7000);
    CHECK(regs.rflags == 2);
    CHECK(regs.rax == 0);
    CHECK(sregs.cr0 == 0x80000031);
    CHECK(sregs.cr4 == 0x20);
    CHECK(sregs.efer == 0x500);
    CHECK(sregs.cr3 == layout::boot_page_tables.raw());
    CHECK((sregs.cs.selector == 0x10 && sregs.cs.l == 1 && sregs.cs.db == 0));
    CHECK((sregs.ds.selector == 0x18 && sregs.ss.selector == 0x18 && sregs.ds.limit == 0xffffffff));
    CHECK(sregs.apic_base == 0xfee00900);
}

TEST_CASE("a 32-bit Linux entry starts in protected mode without paging, boot_params in ESI") {
    kvm_sregs sregs{};
    kvm_regs regs{};
    set_initial_state({Entry::Mode::linux32, Gpa{0x100000}, Gpa{0x7000}}, sregs, regs);
    CHECK(regs.rsi == 0x7000);
    CHECK((regs.rbx == 0 && regs.rbp == 0 && regs.rdi == 0));
    CHECK((sregs.cr0 == 0x11 && sregs.cr4 == 0 && sregs.efer == 0));
    CHECK((sregs.cs.selector == 0x10 && sregs.cs.l == 0 && sregs.cs.db == 1));
    CHECK((sregs.ds.selector == 0x18 && sregs.ss.selector == 0x18));
}

TEST_CASE("a PVH entry starts in 32-bit protected mode without paging, start info in EBX") {
    kvm_sregs sregs{};
    kvm_regs regs{};
    set_initial_state({Entry::Mode::pvh32, Gpa{0x1000000}, Gpa{0x7000}}, sregs, regs);
    CHECK(regs.rbx == 0x7000);
    CHECK(sregs.cr0 == 0x11);
    CHECK((sregs.cr4 == 0 && sregs.efer == 0));
    CHECK((sregs.cs.l == 0 && sregs.cs.db == 1 && sregs.cs.type == 0xb && sregs.cs.base == 0));
    CHECK((sregs.tr.type == 0xb && sregs.tr.limit == 0x67 && sregs.tr.s == 0));
}

TEST_CASE("the GDT in memory holds what the segment registers were given") {
    const auto memory = GuestMemory::create(2 * MiB, HugePages::none).value();
    REQUIRE(write_boot_tables(memory));
    const auto at = [&](unsigned selector) { return read64(memory, layout::gdt + selector); };
    CHECK(at(0x00) == 0);
    CHECK(at(0x08) == 0x00cf9b000000ffff);
    CHECK(at(0x10) == 0x00af9b000000ffff);
    CHECK(at(0x18) == 0x00cf93000000ffff);
    CHECK(at(0x20) == 0x00008b0000000067);
}

TEST_CASE("the boot page tables map the low 4 GiB to themselves and nothing else") {
    const auto memory = GuestMemory::create(2 * MiB, HugePages::none).value();
    REQUIRE(write_boot_tables(memory));
    for (const std::uint64_t address :
         {0UL, 0x7000UL, 0x1fffffUL, 0x200000UL, 0x3fffffffUL, 0xc0000123UL, 0xffffffffUL})
        CHECK(translate(memory, address) == Gpa{address});
    CHECK_FALSE(translate(memory, 4 * GiB));
    CHECK_FALSE(translate(memory, ~0UL));
}

TEST_CASE("a restart through the real-mode reset vector writes the ACPI reset register") {
    const auto memory = GuestMemory::create(2 * MiB, HugePages::none).value();
    REQUIRE(write_boot_tables(memory));
    CHECK(read64(memory, Gpa{0xffff0}) == 0xebf4ee0602ba01b0); // mov $1,%al; mov $0x602,%dx; out %al,%dx; hlt; jmp
}

TEST_CASE("MSRs and FPU start as firmware leaves them") {
    const auto msrs = initial_msrs();
    CHECK((msrs[0].index == 0x2ff && msrs[0].data == 0x806));
    CHECK((msrs[1].index == 0x1a0 && msrs[1].data == 1));
    CHECK((initial_fpu().fcw == 0x37f && initial_fpu().mxcsr == 0x1f80));
}

} // namespace inox::boot_cpu_state_test
