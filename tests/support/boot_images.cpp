// SPDX-License-Identifier: Apache-2.0
#include "tests/support/boot_images.hpp"

namespace inox::tests {

Elf::Elf() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_phoff = headers_at;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_entry = 0x100000;
}

Elf& Elf::load(std::uint64_t address, const Bytes& content, std::uint64_t memory_size) {
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

Elf& Elf::note(std::uint32_t type, const Bytes& description) {
    Bytes content;
    put(content, 0, Elf64_Nhdr{4, static_cast<std::uint32_t>(description.size()), type});
    put(content, 12, std::uint32_t{0x6e6558}); // "Xen"
    content.insert(content.end(), description.begin(), description.end());
    load(0, content, content.size());
    program_headers.back().p_type = PT_NOTE;
    program_headers.back().p_align = 4;
    return *this;
}

Bytes Elf::bytes() const {
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

Bytes Elf::bytes32() const {
    Bytes file(data_at);
    Elf32_Ehdr ehdr{};
    std::memcpy(ehdr.e_ident, header.e_ident, sizeof ehdr.e_ident);
    ehdr.e_ident[EI_CLASS] = ELFCLASS32;
    ehdr.e_type = header.e_type;
    ehdr.e_machine = header.e_machine == EM_X86_64 ? EM_386 : header.e_machine;
    ehdr.e_entry = static_cast<Elf32_Addr>(header.e_entry);
    ehdr.e_phoff = headers_at;
    ehdr.e_phentsize = sizeof(Elf32_Phdr);
    ehdr.e_phnum = static_cast<Elf32_Half>(program_headers.size());
    put(file, 0, ehdr);
    for (std::size_t i = 0; i < program_headers.size(); ++i) {
        const Elf64_Phdr& wide = program_headers[i];
        Elf32_Phdr narrow{};
        narrow.p_type = wide.p_type;
        narrow.p_offset = static_cast<Elf32_Off>(wide.p_offset);
        narrow.p_paddr = static_cast<Elf32_Addr>(wide.p_paddr);
        narrow.p_filesz = static_cast<Elf32_Word>(wide.p_filesz);
        narrow.p_memsz = static_cast<Elf32_Word>(wide.p_memsz);
        narrow.p_align = static_cast<Elf32_Word>(wide.p_align);
        put(file, headers_at + i * sizeof narrow, narrow);
    }
    file.insert(file.end(), data.begin(), data.end());
    return file;
}

Bytes gzipped(const Bytes& content) {
    z_stream stream{};
    constexpr int gzip_header = 15 + 16;
    if (::deflateInit2(&stream, 1, Z_DEFLATED, gzip_header, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        return {};
    Bytes out(::deflateBound(&stream, content.size()));
    Bytes input = content; // zlib's pointer is not const
    stream.next_in = reinterpret_cast<Bytef*>(input.data());
    stream.avail_in = static_cast<uInt>(input.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    ::deflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    ::deflateEnd(&stream);
    return out;
}

BzImage::BzImage() {
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

Bytes BzImage::bytes() const {
    setup_header shown = header;
    if (shown.syssize == 0)
        shown.syssize = static_cast<std::uint32_t>(payload.size() / 16);
    Bytes file(payload_at);
    put(file, 0x1f1, shown);
    file.insert(file.end(), payload.begin(), payload.end());
    return file;
}

} // namespace inox::tests
