// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf.hpp"

#include <algorithm>
#include <cstring>
#include <elf.h>

namespace inox::boot {
namespace {

using ull = unsigned long long;

// XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h: the PVH entry point.
constexpr std::uint32_t note_phys32_entry = 18;
constexpr std::uint64_t max_notes = 1 * MiB;
constexpr const char* rebuild = "fetch or build the kernel again";

Result<void> check_header(const Image& file, const Elf64_Ehdr& header) {
    const bool wide = header.e_ident[EI_CLASS] == ELFCLASS64;
    if (header.e_machine != (wide ? EM_X86_64 : EM_386))
        return file.invalid(format("%s-bit ELF for machine %u (e_machine), not for x86 (%u)", wide ? "64" : "32",
                                   header.e_machine, wide ? EM_X86_64 : EM_386),
                            "give an x86-64 kernel");
    if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
        return file.invalid(format("ELF type %u (e_type) is not an executable", header.e_type),
                            "give the linked vmlinux, not an object file");
    const std::size_t entry = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    if (header.e_phentsize != entry)
        return file.invalid(format("e_phentsize is %u, not %zu", header.e_phentsize, entry), rebuild);
    if (header.e_phnum == 0 || header.e_phnum == PN_XNUM)
        return file.invalid(format("%u program headers (e_phnum)", header.e_phnum), rebuild);
    return {};
}

Elf64_Phdr widened(const Elf32_Phdr& from) {
    Elf64_Phdr to{};
    to.p_type = from.p_type;
    to.p_flags = from.p_flags;
    to.p_offset = from.p_offset;
    to.p_vaddr = from.p_vaddr;
    to.p_paddr = from.p_paddr;
    to.p_filesz = from.p_filesz;
    to.p_memsz = from.p_memsz;
    to.p_align = from.p_align;
    return to;
}
const Elf64_Phdr& widened(const Elf64_Phdr& same) { return same; }

/// Fields of either class in the shape of the wider one.
Result<Elf64_Ehdr> read_header(const Image& file) {
    Elf64_Ehdr header{};
    const auto ident = std::as_writable_bytes(std::span{header.e_ident});
    TRY_VOID(file.read(0, ident));
    if (header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_ident[EI_CLASS] == ELFCLASSNONE ||
        header.e_ident[EI_CLASS] > ELFCLASS64)
        return file.invalid("ELF, but neither little-endian 64-bit nor 32-bit", "give an x86-64 kernel");
    if (header.e_ident[EI_CLASS] == ELFCLASS64) {
        TRY_VOID(file.read(0, std::as_writable_bytes(std::span{&header, 1})));
        return header;
    }
    Elf32_Ehdr narrow{};
    TRY_VOID(file.read(0, std::as_writable_bytes(std::span{&narrow, 1})));
    header.e_type = narrow.e_type;
    header.e_machine = narrow.e_machine;
    header.e_entry = narrow.e_entry;
    header.e_phoff = narrow.e_phoff;
    header.e_phentsize = narrow.e_phentsize;
    header.e_phnum = narrow.e_phnum;
    return header;
}

template <class Phdr>
Result<std::vector<Elf64_Phdr>> read_program_headers_as(const Image& file, const Elf64_Ehdr& header) {
    const std::uint64_t bytes = std::uint64_t{header.e_phnum} * sizeof(Phdr);
    if (header.e_phoff > file.size() || bytes > file.size() - header.e_phoff)
        return file.invalid(format("program headers at 0x%llx (e_phoff) end beyond the file", ull{header.e_phoff}),
                            rebuild);
    std::vector<Phdr> headers(header.e_phnum);
    TRY_VOID(file.read(header.e_phoff, std::as_writable_bytes(std::span{headers})));
    std::vector<Elf64_Phdr> out;
    out.reserve(headers.size());
    for (const Phdr& one : headers)
        out.push_back(widened(one));
    return out;
}

Result<std::vector<Elf64_Phdr>> read_program_headers(const Image& file, const Elf64_Ehdr& header) {
    return header.e_ident[EI_CLASS] == ELFCLASS64 ? read_program_headers_as<Elf64_Phdr>(file, header)
                                                  : read_program_headers_as<Elf32_Phdr>(file, header);
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

/// Reads in the order of the file, because the file may be in an archive that unpacks in one direction.
Result<std::optional<std::uint64_t>> read_pvh_note(const Image& file, std::vector<Elf64_Phdr> headers) {
    std::ranges::sort(headers, {}, &Elf64_Phdr::p_offset);
    for (const Elf64_Phdr& header : headers) {
        std::vector<std::byte> notes(std::min<std::uint64_t>(header.p_filesz, max_notes));
        TRY_VOID(file.read(header.p_offset, notes));
        if (const auto entry = find_pvh_note(notes, header.p_align == 8 ? 8 : 4))
            return entry;
    }
    return std::optional<std::uint64_t>{};
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
    const Elf64_Ehdr header = TRY(read_header(file));
    TRY_VOID(check_header(file, header));
    const auto program_headers = TRY(read_program_headers(file, header));

    ElfImage image{.entry = Gpa{header.e_entry}};
    std::vector<Elf64_Phdr> notes;
    for (std::size_t i = 0; i < program_headers.size(); ++i) {
        const Elf64_Phdr& program_header = program_headers[i];
        if (program_header.p_type == PT_INTERP)
            return file.invalid("a program that needs a dynamic linker (PT_INTERP), not a kernel",
                                "give a vmlinux or a bzImage");
        if (program_header.p_type == PT_LOAD && program_header.p_memsz != 0) {
            image.segments.push_back(TRY(segment_of(file, i, program_header)));
        } else if (program_header.p_type == PT_NOTE) {
            TRY_VOID(check_in_file(file, i, program_header));
            notes.push_back(program_header);
        }
    }
    if (const auto entry = TRY(read_pvh_note(file, std::move(notes))))
        image.pvh_entry = Gpa{*entry};
    if (image.segments.empty())
        return file.invalid("no loadable segment (PT_LOAD)", rebuild);
    if (!image.pvh_entry && header.e_ident[EI_CLASS] == ELFCLASS32)
        return file.invalid("a 32-bit ELF without a PVH note, the only 32-bit entry of an ELF that inox knows",
                            "such kernels are started by a Multiboot loader such as GRUB: give inox GRUB's PVH image "
                            "(grub-i386-xen_pvh.bin), with the kernel on a disk");
    if (image.pvh_entry)
        TRY_VOID(check_entry(file, image, image.pvh_entry->raw(), "PVH note"));
    else
        TRY_VOID(check_entry(file, image, image.entry.raw(), "e_entry"));
    if (image.pvh_entry && image.pvh_entry->raw() >= 4 * GiB)
        return file.invalid("the PVH entry lies above 4 GiB", "rebuild it for a 32-bit entry");
    return image;
}

} // namespace inox::boot
