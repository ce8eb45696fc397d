// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/boot_info.hpp"

#include <asm/bootparam.h>
#include <cstring>

#include "vmm/memory/layout.hpp"

namespace inox::boot {
namespace {

static_assert(sizeof(boot_params) == page_size);
static_assert(offsetof(boot_params, acpi_rsdp_addr) == 0x70 && offsetof(boot_params, e820_entries) == 0x1e8);
static_assert(offsetof(boot_params, e820_table) == 0x2d0 && sizeof(boot_e820_entry) == 20);

constexpr std::uint8_t loader_without_id = 0xff;
constexpr std::uint32_t linux_command_line_size = 2048; // COMMAND_LINE_SIZE of every x86 Linux

std::unexpected<Error> no_place(const char* what) {
    return fail(Errc::internal, format("%s do not fit guest memory", what));
}

Result<void> write_cmdline(const GuestMemory& memory, std::string_view cmdline) {
    // Memory starts zeroed, so the final NUL is there already.
    if (cmdline.size() >= layout::cmdline_capacity || !memory.write(layout::cmdline, std::as_bytes(std::span{cmdline})))
        return no_place("the command line");
    return {};
}

/// An ELF kernel's file has no setup header. These are the fields that its 64-bit entry reads.
setup_header header_for_elf() {
    setup_header header{};
    header.boot_flag = 0xaa55;
    header.header = 0x53726448; // "HdrS"
    header.version = 0x020f;
    header.kernel_alignment = 16 * MiB;
    header.cmdline_size = linux_command_line_size - 1;
    header.loadflags = LOADED_HIGH;
    return header;
}

// PVH (xen/include/public/arch-x86/hvm/start_info.h).
struct StartInfo {
    Le32 magic{0x336ec578};
    Le32 version{1};
    Le32 flags{};
    Le32 module_count{};
    Le64 modules{};
    Le64 cmdline{};
    Le64 rsdp{};
    Le64 memory_map{};
    Le32 memory_map_count{};
    Le32 reserved{};
};
struct StartModule {
    Le64 address;
    Le64 size;
    Le64 cmdline{};
    Le64 reserved{};
};
struct StartMapEntry {
    Le64 address;
    Le64 size;
    Le32 type;
    Le32 reserved{};
};
static_assert(sizeof(StartInfo) == 56 && sizeof(StartModule) == 32 && sizeof(StartMapEntry) == 24);
static_assert(offsetof(StartInfo, memory_map) == 40);

constexpr Gpa start_info_modules = layout::boot_params + 0x40;
constexpr Gpa start_info_memory_map = layout::boot_params + 0x80;

} // namespace

Result<void> write_boot_params(const GuestMemory& memory, const BootInfo& info, const BzImage* bzimage) {
    boot_params params{};
    params.hdr = bzimage ? std::bit_cast<setup_header>(bzimage->setup_header) : header_for_elf();
    params.hdr.type_of_loader = loader_without_id;
    params.hdr.cmd_line_ptr = static_cast<std::uint32_t>(layout::cmdline.raw());
    if (info.initrd) {
        params.hdr.ramdisk_image = static_cast<std::uint32_t>(info.initrd->start().raw());
        params.hdr.ramdisk_size = static_cast<std::uint32_t>(info.initrd->size());
    }
    params.acpi_rsdp_addr = layout::acpi_tables.start().raw();
    for (const MapEntry& entry : memory_map(memory)) {
        boot_e820_entry& line = params.e820_table[params.e820_entries++];
        line.addr = entry.range.start().raw();
        line.size = entry.range.size();
        line.type = static_cast<std::uint32_t>(entry.type);
    }
    if (!memory.write(layout::boot_params, std::as_bytes(std::span{&params, 1})))
        return no_place("the boot parameters");
    return write_cmdline(memory, info.cmdline);
}

Result<void> write_start_info(const GuestMemory& memory, const BootInfo& info) {
    StartInfo start;
    start.cmdline = layout::cmdline.raw();
    start.rsdp = layout::acpi_tables.start().raw();
    bool written = true;
    if (info.initrd) {
        start.module_count = 1;
        start.modules = start_info_modules.raw();
        written = memory.write(start_info_modules, StartModule{info.initrd->start().raw(), info.initrd->size()});
    }
    const auto map = memory_map(memory);
    start.memory_map = start_info_memory_map.raw();
    start.memory_map_count = static_cast<std::uint32_t>(map.size());
    for (std::size_t i = 0; i < map.size(); ++i)
        written = written && memory.write(start_info_memory_map + i * sizeof(StartMapEntry),
                                          StartMapEntry{map[i].range.start().raw(), map[i].range.size(),
                                                        static_cast<std::uint32_t>(map[i].type)});
    if (!written || !memory.write(layout::boot_params, start))
        return no_place("the PVH start info");
    return write_cmdline(memory, info.cmdline);
}

} // namespace inox::boot
