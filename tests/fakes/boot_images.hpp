// SPDX-License-Identifier: Apache-2.0
// Small kernels made in memory: right by default, each field open to damage.
#pragma once

#include <asm/bootparam.h>
#include <cstring>
#include <elf.h>
#include <span>
#include <vector>

#include "vmm/base/bytes.hpp"

namespace fakes {

using Bytes = std::vector<std::byte>;

template <class T> void put(Bytes& bytes, std::size_t offset, const T& value) {
    if (bytes.size() < offset + sizeof value)
        bytes.resize(offset + sizeof value);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

struct Elf {
    static constexpr std::size_t headers_at = 64;
    static constexpr std::size_t data_at = 0x1000;

    Elf64_Ehdr header{};
    std::vector<Elf64_Phdr> program_headers{};
    Bytes data{}; ///< at data_at

    Elf() {
        std::memcpy(header.e_ident, ELFMAG, SELFMAG);
        header.e_ident[EI_CLASS] = ELFCLASS64;
        header.e_ident[EI_DATA] = ELFDATA2LSB;
        header.e_type = ET_EXEC;
        header.e_machine = EM_X86_64;
        header.e_phoff = headers_at;
        header.e_phentsize = sizeof(Elf64_Phdr);
        header.e_entry = 0x100000;
    }
    /// A segment of `content`, then zeros up to `memory_size`.
    Elf& load(std::uint64_t address, const Bytes& content, std::uint64_t memory_size) {
        Elf64_Phdr segment{};
        segment.p_type = PT_LOAD;
        segment.p_offset = data_at + data.size();
        segment.p_paddr = address;
        segment.p_filesz = content.size();
        segment.p_memsz = memory_size;
        program_headers.push_back(segment);
        data.insert(data.end(), content.begin(), content.end());
        return *this;
    }
    /// A PT_NOTE with one Xen note.
    Elf& note(std::uint32_t type, const Bytes& description) {
        Bytes content;
        put(content, 0, Elf64_Nhdr{4, static_cast<std::uint32_t>(description.size()), type});
        put(content, 12, std::uint32_t{0x6e6558}); // "Xen"
        content.insert(content.end(), description.begin(), description.end());
        load(0, content, content.size());
        program_headers.back().p_type = PT_NOTE;
        program_headers.back().p_align = 4;
        return *this;
    }
    [[nodiscard]] Bytes bytes() const {
        Bytes file(data_at);
        Elf64_Ehdr ehdr = header;
        if (ehdr.e_phnum == 0)
            ehdr.e_phnum = static_cast<Elf64_Half>(program_headers.size());
        put(file, 0, ehdr);
        for (std::size_t i = 0; i < program_headers.size(); ++i)
            put(file, headers_at + i * sizeof(Elf64_Phdr), program_headers[i]);
        file.insert(file.end(), data.begin(), data.end());
        return file;
    }
};

inline Bytes filled(std::size_t size, std::uint8_t value) { return Bytes(size, std::byte{value}); }
template <class T> Bytes bytes_of(const T& value) {
    Bytes bytes;
    put(bytes, 0, value);
    return bytes;
}

struct BzImage {
    static constexpr std::uint8_t setup_sectors = 3;
    static constexpr std::size_t payload_at = (setup_sectors + 1) * 512;

    setup_header header{};
    Bytes payload{filled(0x400, 0xc3)};

    BzImage() {
        header.setup_sects = setup_sectors;
        header.boot_flag = 0xaa55;
        header.jump = 0x6aeb; // jmp to 0x202 + 0x6a: the header ends there
        header.header = 0x53726448;
        header.version = 0x020f;
        header.loadflags = LOADED_HIGH;
        header.xloadflags = XLF_KERNEL_64;
        header.initrd_addr_max = 0x7fffffff;
        header.kernel_alignment = 0x200000;
        header.relocatable_kernel = 1;
        header.cmdline_size = 2047;
        header.pref_address = 0x400000;
        header.init_size = 0x100000;
    }
    [[nodiscard]] Bytes bytes() const {
        setup_header shown = header;
        if (shown.syssize == 0)
            shown.syssize = static_cast<std::uint32_t>(payload.size() / 16);
        Bytes file(payload_at);
        put(file, 0x1f1, shown);
        file.insert(file.end(), payload.begin(), payload.end());
        return file;
    }
};

} // namespace fakes
