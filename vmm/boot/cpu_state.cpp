// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cpu_state.hpp"

#include <asm/processor-flags.h>
#include <vector>

#include "vmm/memory/layout.hpp"

namespace inox::boot {
namespace {

// Intel SDM volume 3, 3.4.5 and 3.5: code and data descriptor types with "accessed" set, busy 32/64-bit TSS.
constexpr std::uint8_t code_type = 0xb;
constexpr std::uint8_t data_type = 0x3;
constexpr std::uint8_t busy_tss_type = 0xb;

// Selectors. Linux wants code of its entry's mode at 0x10 and data at 0x18 (boot.rst, "32-bit" and "64-bit boot
// protocol").
constexpr std::uint16_t pvh_code_selector = 0x08;
constexpr std::uint16_t linux_code_selector = 0x10;
constexpr std::uint16_t data_selector = 0x18;
constexpr std::uint16_t tss_selector = 0x20;

constexpr std::uint64_t efer_lme = 1U << 8;
constexpr std::uint64_t efer_lma = 1U << 10;

kvm_segment flat_segment(std::uint16_t selector, std::uint8_t type, bool long_mode) {
    kvm_segment segment{};
    segment.limit = 0xffffffff;
    segment.selector = selector;
    segment.type = type;
    segment.present = 1;
    segment.db = long_mode ? 0 : 1;
    segment.s = 1;
    segment.l = long_mode ? 1 : 0;
    segment.g = 1;
    return segment;
}

kvm_segment tss_segment() {
    kvm_segment segment{};
    segment.limit = 0x67; // the smallest legal TSS; nothing reads it
    segment.selector = tss_selector;
    segment.type = busy_tss_type;
    segment.present = 1;
    return segment;
}

/// The 8-byte descriptor that loads as `segment` (SDM volume 3, figure 3-8).
std::uint64_t descriptor(const kvm_segment& segment) {
    const std::uint64_t limit = segment.g ? segment.limit >> 12 : segment.limit;
    const auto bit = [](std::uint8_t value, unsigned position) { return std::uint64_t{value} << position; };
    return (limit & 0xffff) | (segment.base & 0xffffff) << 16 | bit(segment.type, 40) | bit(segment.s, 44) |
           bit(segment.dpl, 45) | bit(segment.present, 47) | (limit >> 16 & 0xf) << 48 | bit(segment.l, 53) |
           bit(segment.db, 54) | bit(segment.g, 55) | (segment.base >> 24 & 0xff) << 56;
}

// This code is the whole BIOS. Linux on hardware-reduced ACPI without EFI does not use the ACPI reset register: it asks
// an EFI it does not have, then jumps to the BIOS (arch/x86/kernel/reboot.c, reboot_init, BOOT_EFI, BOOT_BIOS).
constexpr auto reset_port = static_cast<std::uint16_t>(layout::port_acpi.start().raw() + 2);
constexpr std::array<std::uint8_t, 9> reset_code{
    0xb0,
    0x01, // mov $1, %al
    0xba,
    reset_port & 0xff,
    reset_port >> 8, // mov $reset_port, %dx
    0xee,            // out %al, %dx
    0xf4,            // hlt
    0xeb,
    0xfd, // jmp to hlt
};

constexpr std::size_t gdt_entries = 6; // in long mode the TSS takes two

constexpr std::uint64_t table_entry = 0x03;      // present, writable
constexpr std::uint64_t large_page_entry = 0x83; // and a 2 MiB page
constexpr std::size_t entries_per_table = 512;
constexpr std::size_t directories = 4; // 1 GiB each
static_assert((2 + directories) * page_size <= layout::boot_page_tables_size);

} // namespace

void set_initial_state(const Entry& entry, kvm_sregs& sregs, kvm_regs& regs) {
    const bool long_mode = entry.mode == Entry::Mode::linux64;
    const bool pvh = entry.mode == Entry::Mode::pvh32;
    regs = {};
    regs.rip = entry.rip.raw();
    regs.rflags = X86_EFLAGS_FIXED;
    (pvh ? regs.rbx : regs.rsi) = entry.boot_info.raw();

    sregs.cs = flat_segment(pvh ? pvh_code_selector : linux_code_selector, code_type, long_mode);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat_segment(data_selector, data_type, false);
    sregs.tr = tss_segment();
    sregs.ldt = {};
    sregs.ldt.unusable = 1;
    sregs.gdt.base = layout::gdt.raw();
    sregs.gdt.limit = gdt_entries * sizeof(std::uint64_t) - 1;
    sregs.idt = {};
    sregs.cr0 = X86_CR0_PE | X86_CR0_ET | (long_mode ? X86_CR0_PG | X86_CR0_NE : 0UL);
    sregs.cr3 = long_mode ? layout::boot_page_tables.raw() : 0;
    sregs.cr4 = long_mode ? X86_CR4_PAE : 0UL;
    sregs.efer = long_mode ? efer_lme | efer_lma : 0;
}

kvm_fpu initial_fpu() {
    kvm_fpu fpu{};
    fpu.fcw = 0x37f;
    fpu.mxcsr = 0x1f80;
    return fpu;
}

std::array<kvm_msr_entry, 2> initial_msrs() {
    kvm_msr_entry mtrr_def_type{};
    mtrr_def_type.index = 0x2ff;       // IA32_MTRR_DEF_TYPE
    mtrr_def_type.data = 1U << 11 | 6; // enabled, write-back
    kvm_msr_entry misc_enable{};
    misc_enable.index = 0x1a0; // IA32_MISC_ENABLE
    misc_enable.data = 1;      // fast strings
    return {mtrr_def_type, misc_enable};
}

Result<void> write_boot_tables(const GuestMemory& memory, Entry::Mode mode) {
    const std::array<std::uint64_t, gdt_entries> gdt{
        0,
        descriptor(flat_segment(pvh_code_selector, code_type, false)),
        descriptor(flat_segment(linux_code_selector, code_type, mode == Entry::Mode::linux64)),
        descriptor(flat_segment(data_selector, data_type, false)),
        descriptor(tss_segment()),
        0,
    };
    // Order: top table, directory pointers, four directories.
    std::vector<std::uint64_t> tables((2 + directories) * entries_per_table);
    const std::uint64_t base = layout::boot_page_tables.raw();
    tables[0] = base + page_size + table_entry;
    for (std::size_t i = 0; i < directories; ++i)
        tables[entries_per_table + i] = base + (2 + i) * page_size + table_entry;
    for (std::size_t i = 0; i < directories * entries_per_table; ++i)
        tables[2 * entries_per_table + i] = i * 2 * MiB + large_page_entry;

    if (!memory.write(layout::gdt, std::as_bytes(std::span{gdt})) ||
        !memory.write(layout::boot_page_tables, std::as_bytes(std::span{tables})) ||
        !memory.write(layout::reset_vector, std::as_bytes(std::span{reset_code})))
        return fail(Errc::internal, "the boot tables do not fit guest memory");
    return {};
}

} // namespace inox::boot
