// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf.hpp"

#include <algorithm>
#include <cstring>
#include <elf.h>

namespace vmm::boot {
namespace {

using ull = unsigned long long;

// XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h: the PVH entry point.
constexpr std::uint32_t note_phys32_entry = 18;
constexpr std::uint64_t max_notes = 1 * MiB;
constexpr const char* rebuild = "fetch or build the kernel again";

Result<void> check_header(const Image& file, const Elf64_Ehdr& header) {
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
        return file.invalid("ELF, but not of 64-bit little-endian kind", "give an x86-64 kernel");
    if (header.e_machine != EM_X86_64)
        return file.invalid(format("ELF for machine %u (e_machine), not for x86-64 (62)", header.e_machine),
                            "give an x86-64 kernel");
    if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
        return file.invalid(format("ELF type %u (e_type) is not an executable", header.e_type),
                            "give the linked vmlinux, not an object file");
    if (header.e_phentsize != sizeof(Elf64_Phdr))
        return file.invalid(format("e_phentsize is %u, not 56", header.e_phentsize), rebuild);
    if (header.e_phnum == 0 || header.e_phnum == PN_XNUM)
        return file.invalid(format("%u program headers (e_phnum)", header.e_phnum), rebuild);
    return {};
}

Result<std::vector<Elf64_Phdr>> read_program_headers(const Image& file, const Elf64_Ehdr& header) {
    const std::uint64_t bytes = std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
    if (header.e_phoff > file.size() || bytes > file.size() - header.e_phoff)
        return file.invalid(format("program headers at 0x%llx (e_phoff) end beyond the file", ull{header.e_phoff}),
                            rebuild);
    std::vector<Elf64_Phdr> headers(header.e_phnum);
    TRY_VOID(file.read(header.e_phoff, std::as_writable_bytes(std::span{headers})));
    return headers;
}

Result<void> check_in_file(const Image& file, std::size_t index, const Elf64_Phdr& header) {
    if (header.p_offset > file.size() || header.p_filesz > file.size() - header.p_offset)
        return file.invalid(format("segment %zu: 0x%llx bytes at file offset 0x%llx end beyond the file (0x%llx bytes)",
                                   index, ull{header.p_filesz}, ull{header.p_offset}, ull{file.size()}),
                            "the file is truncated: fetch or build it again");
    return {};
}

Result<ElfSegment> segment_of(const Image& file, std::size_t index, const Elf64_Phdr& header) {
    TRY_VOID(check_in_file(file, index, header));
    if (header.p_filesz > header.p_memsz)
        return file.invalid(format("segment %zu: p_filesz 0x%llx is more than p_memsz 0x%llx", index,
                                   ull{header.p_filesz}, ull{header.p_memsz}),
                            rebuild);
    if (!Range<Gpa>::sized(Gpa{header.p_paddr}, header.p_memsz))
        return file.invalid(format("segment %zu: 0x%llx bytes at 0x%llx (p_paddr) wrap around", index,
                                   ull{header.p_memsz}, ull{header.p_paddr}),
                            rebuild);
    return ElfSegment{header.p_offset, header.p_filesz, Gpa{header.p_paddr}, header.p_memsz};
}

/// Walks one PT_NOTE. Damaged notes end the walk: they only cost the PVH entry.
std::optional<std::uint64_t> find_pvh_note(std::span<const std::byte> notes, std::uint64_t alignment) {
    while (notes.size() >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note{};
        std::memcpy(&note, notes.data(), sizeof note);
        const std::uint64_t description = align_up(sizeof note + std::uint64_t{note.n_namesz}, alignment);
        const std::uint64_t next = align_up(description + note.n_descsz, alignment);
        if (description + note.n_descsz > notes.size())
            break;
        const bool xen = note.n_namesz == 4 && std::memcmp(notes.data() + sizeof note, "Xen", 4) == 0;
        if (xen && note.n_type == note_phys32_entry && (note.n_descsz == 4 || note.n_descsz == 8))
            return load_le(notes.subspan(description, note.n_descsz));
        notes = notes.subspan(std::min<std::uint64_t>(next, notes.size()));
    }
    return std::nullopt;
}

Result<std::optional<std::uint64_t>> read_pvh_note(const Image& file, std::size_t index, const Elf64_Phdr& header) {
    TRY_VOID(check_in_file(file, index, header));
    std::vector<std::byte> notes(std::min<std::uint64_t>(header.p_filesz, max_notes));
    TRY_VOID(file.read(header.p_offset, notes));
    return find_pvh_note(notes, header.p_align == 8 ? 8 : 4);
}

Result<void> check_entry(const Image& file, const ElfImage& image, std::uint64_t entry, const char* field) {
    const auto holds = [&](const ElfSegment& segment) {
        return Range<Gpa>::sized(segment.start, segment.memory_size)->contains(Gpa{entry});
    };
    if (std::ranges::none_of(image.segments, holds))
        return file.invalid(format("entry 0x%llx (%s) lies in no loaded segment", ull{entry}, field),
                            "inox enters kernels at physical addresses, as Linux's vmlinux is linked");
    return {};
}

} // namespace

bool is_elf(const Image& file) {
    const auto magic = file.read<Le32>(0);
    return magic && *magic == load_le<std::uint32_t>(std::as_bytes(std::span{ELFMAG, SELFMAG}));
}

Result<ElfImage> parse_elf(const Image& file) {
    Elf64_Ehdr header{};
    TRY_VOID(file.read(0, std::as_writable_bytes(std::span{&header, 1})));
    TRY_VOID(check_header(file, header));
    const auto program_headers = TRY(read_program_headers(file, header));

    ElfImage image{.entry = Gpa{header.e_entry}};
    for (std::size_t i = 0; i < program_headers.size(); ++i) {
        const Elf64_Phdr& program_header = program_headers[i];
        if (program_header.p_type == PT_INTERP)
            return file.invalid("a program that wants a dynamic linker (PT_INTERP), not a kernel",
                                "give a vmlinux or a bzImage");
        if (program_header.p_type == PT_LOAD && program_header.p_memsz != 0) {
            image.segments.push_back(TRY(segment_of(file, i, program_header)));
        } else if (program_header.p_type == PT_NOTE && !image.pvh_entry) {
            if (const auto entry = TRY(read_pvh_note(file, i, program_header)))
                image.pvh_entry = Gpa{*entry};
        }
    }
    if (image.segments.empty())
        return file.invalid("no loadable segment (PT_LOAD)", rebuild);
    if (image.pvh_entry)
        TRY_VOID(check_entry(file, image, image.pvh_entry->raw(), "PVH note"));
    else
        TRY_VOID(check_entry(file, image, image.entry.raw(), "e_entry"));
    if (image.pvh_entry && image.pvh_entry->raw() >= 4 * GiB)
        return file.invalid("the PVH entry lies above 4 GiB", "rebuild it for a 32-bit entry");
    return image;
}

} // namespace vmm::boot
