// SPDX-License-Identifier: Apache-2.0
// The guest machine's address map. Every fixed address of the platform lives here and nowhere else.
#pragma once

#include "vmm/base/address.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/range.hpp"

namespace inox::layout {

// Below 1 MiB. The boot structures are dead once the kernel has copied them.
inline constexpr Gpa gdt{0x500};
inline constexpr Gpa boot_params{0x7000};      ///< one page; also the PVH start info
inline constexpr Gpa boot_page_tables{0x9000}; ///< up to boot_page_tables_size bytes
inline constexpr std::uint64_t boot_page_tables_size = 0x6000;
inline constexpr Gpa cmdline{0x20000};
inline constexpr std::uint64_t cmdline_capacity = 64 * KiB; ///< with the final NUL
inline constexpr auto low_ram = fixed_range<Gpa>(0, 0x9fbff);
inline constexpr auto acpi_tables = fixed_range<Gpa>(0xe0000, 0xedfff); ///< RSDP first
inline constexpr Gpa vm_clock{0xee000};                                 ///< one page: tells of jumps of the clocks
inline constexpr Gpa generation_id{0xef000}; ///< 16 bytes: differs in each machine that goes on from one snapshot
inline constexpr Gpa snapshot_id{0xef040};   ///< 16 bytes, in memory files only: which snapshot it is of
inline constexpr auto smbios = fixed_range<Gpa>(0xf0000, 0xf1fff); ///< entry point first: kernels look from 0xf0000 on
inline constexpr Gpa reset_vector{0xffff0};                        ///< where a real-mode restart jumps to
inline constexpr Gpa high_ram{1 * MiB};                            ///< kernels load from here up

// The 32-bit hole: RAM ends below it and goes on at 4 GiB. The windows for BARs are the usual ones: see AddressMap.
inline constexpr auto hole = fixed_range<Gpa>(0xc0000000, 0xffffffff);
inline constexpr auto mmio_devices = fixed_range<Gpa>(0xc0000000, 0xc1ffffff); ///< virtio-mmio, boot timer at its base
inline constexpr auto pasid_registers = fixed_range<Gpa>(0xc1fff000, 0xc1ffffff); ///< the virtual command interface
inline constexpr auto pci_bars_32 = fixed_range<Gpa>(0xc2000000, 0xdfffffff);
inline constexpr auto ecam = fixed_range<Gpa>(0xe0000000, 0xe00fffff); ///< bus 0 only: each more is 1 MiB to scan
inline constexpr auto io_apic = fixed_range<Gpa>(0xfec00000, 0xfec00fff);
inline constexpr auto local_apic = fixed_range<Gpa>(0xfee00000, 0xfee00fff);
inline constexpr auto msi_window = fixed_range<Gpa>(0xfee00000, 0xfeefffff); ///< x86 MSI writes never reach RAM
inline constexpr Gpa identity_map_page{0xfffbc000};                          ///< KVM on Intel: one page
inline constexpr Gpa tss_pages{0xfffbd000};                                  ///< KVM on Intel: three pages
inline constexpr Gpa ram_above_hole{4 * GiB};
inline constexpr std::uint64_t max_ram = 4096 * GiB;
inline constexpr auto pci_bars_64 = fixed_range<Gpa>(256 * GiB, 512 * GiB - 1);

// Ports.
inline constexpr auto port_serial = fixed_range<IoPort>(0x3f8, 0x3ff);
inline constexpr auto port_i8042_data = fixed_range<IoPort>(0x60, 0x60);
inline constexpr auto port_i8042_status = fixed_range<IoPort>(0x64, 0x64);
inline constexpr auto port_cmos = fixed_range<IoPort>(0x70, 0x71);
inline constexpr auto port_exit = fixed_range<IoPort>(0xf4, 0xf4);       ///< a byte written is the process's exit code
inline constexpr auto port_boot_timer = fixed_range<IoPort>(0xf5, 0xf5); ///< 123: user space is up
inline constexpr auto port_root_failure = fixed_range<IoPort>(0xf6, 0xf6);  ///< why inox's init cannot use the root
inline constexpr auto port_pvpanic = fixed_range<IoPort>(0x505, 0x505);     ///< QEMU's place for it
inline constexpr auto port_acpi = fixed_range<IoPort>(0x600, 0x603);        ///< sleep control, sleep status, reset, -
inline constexpr auto port_pci_hotplug = fixed_range<IoPort>(0x610, 0x61f); ///< see devices/pci/hotplug.hpp
inline constexpr auto port_pci_config = fixed_range<IoPort>(0xcf8, 0xcff);
inline constexpr auto pci_io = fixed_range<IoPort>(0x1000, 0xffff); ///< I/O BARs

// Interrupts: GSI numbers of the in-kernel IO-APIC.
inline constexpr unsigned gsi_keyboard = 1;
inline constexpr unsigned gsi_serial = 4;
inline constexpr unsigned gsi_ged = 9;       ///< ACPI generic event device
inline constexpr unsigned gsi_pci_intx = 16; ///< INTA..INTD: 16..19
inline constexpr unsigned io_apic_pins = 24;
inline constexpr unsigned first_msi_gsi = io_apic_pins; ///< routes of MSI vectors start here

inline constexpr unsigned max_cpus = 255; ///< APIC ids 0 to 254: 255 is the broadcast of 8-bit ones
inline constexpr std::uint64_t min_ram = 1 * MiB + 64 * KiB;

static_assert(!mmio_devices.overlaps(pci_bars_32) && !pci_bars_32.overlaps(ecam) && !ecam.overlaps(io_apic));
static_assert(mmio_devices.contains(pasid_registers));
static_assert(hole.contains(mmio_devices) && hole.contains(ecam) && hole.contains(msi_window));
static_assert(boot_page_tables.raw() + boot_page_tables_size <= cmdline.raw());

} // namespace inox::layout
