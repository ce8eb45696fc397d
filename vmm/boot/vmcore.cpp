// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/vmcore.hpp"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "vmm/memory/touched_pages.hpp"

namespace inox::boot {
namespace {

template <class T> void append(std::string& out, const T& value) {
    const auto bytes = std::as_bytes(std::span{&value, 1});
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()); // NOLINT: bytes as characters
}

void append_note(std::string& out, std::string_view name, std::uint32_t type, std::string_view text) {
    Elf64_Nhdr header{};
    header.n_namesz = static_cast<Elf64_Word>(name.size() + 1);
    header.n_descsz = static_cast<Elf64_Word>(text.size());
    header.n_type = type;
    append(out, header);
    const auto pad = [&] { out.resize((out.size() + 3) / 4 * 4); };
    out += name;
    out += '\0';
    pad();
    out += text;
    pad();
}

/// prstatus of <sys/procfs.h>, with what the readers look at.
struct Status {
    std::uint8_t before[32]{};
    std::int32_t pid{}; ///< the CPU's number plus one
    std::uint8_t between[76]{};
    std::uint64_t registers[27]{};
    std::uint32_t fpvalid{};
    std::uint32_t padding{};
};
static_assert(sizeof(Status) == 336);

Status status_of(const CoreCpu& cpu, std::size_t number) {
    const auto& g = cpu.general;
    const auto& s = cpu.special;
    Status out;
    out.pid = static_cast<std::int32_t>(number + 1);
    const std::uint64_t registers[27] = {
        g.r15,     g.r14,     g.r13,         g.r12,         g.rbp,         g.rbx,        g.r11,
        g.r10,     g.r9,      g.r8,          g.rax,         g.rcx,         g.rdx,        g.rsi,
        g.rdi,     g.rax,     g.rip,         s.cs.selector, g.rflags,      g.rsp,        s.ss.selector,
        s.fs.base, s.gs.base, s.ds.selector, s.es.selector, s.fs.selector, s.gs.selector};
    std::ranges::copy(registers, out.registers);
    return out;
}

struct Segment {
    std::uint32_t selector{};
    std::uint32_t limit{};
    std::uint32_t flags{};
    std::uint32_t padding{};
    std::uint64_t base{};
};

/// By the descriptor and the control registers a reader finds where the kernel runs.
struct CpuState {
    std::uint32_t version{1};
    std::uint32_t size{432};
    std::uint64_t general[18]{};
    Segment segments[10]{};
    std::uint64_t control[5]{};
};
static_assert(sizeof(CpuState) == 432);

/// The second word of a segment's descriptor, without the parts of base and limit in it (Intel SDM 3.4.5).
Segment segment_of(const kvm_segment& from) {
    Segment out;
    out.selector = from.selector;
    out.limit = from.limit;
    out.flags = static_cast<std::uint32_t>(from.type) << 8 | static_cast<std::uint32_t>(from.s) << 12 |
                static_cast<std::uint32_t>(from.dpl) << 13 | static_cast<std::uint32_t>(from.present) << 15 |
                static_cast<std::uint32_t>(from.avl) << 20 | static_cast<std::uint32_t>(from.l) << 21 |
                static_cast<std::uint32_t>(from.db) << 22 | static_cast<std::uint32_t>(from.g) << 23;
    out.base = from.base;
    return out;
}

Segment table_of(const kvm_dtable& from) {
    Segment out;
    out.limit = from.limit;
    out.base = from.base;
    return out;
}

CpuState state_of(const CoreCpu& cpu) {
    const auto& g = cpu.general;
    const auto& s = cpu.special;
    CpuState out;
    const std::uint64_t general[18] = {g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rsp, g.rbp, g.r8,
                                       g.r9,  g.r10, g.r11, g.r12, g.r13, g.r14, g.r15, g.rip, g.rflags};
    std::ranges::copy(general, out.general);
    const Segment segments[10] = {segment_of(s.cs), segment_of(s.ds), segment_of(s.es),  segment_of(s.fs),
                                  segment_of(s.gs), segment_of(s.ss), segment_of(s.ldt), segment_of(s.tr),
                                  table_of(s.gdt),  table_of(s.idt)};
    std::ranges::copy(segments, out.segments);
    out.control[0] = s.cr0;
    out.control[2] = s.cr2;
    out.control[3] = s.cr3;
    out.control[4] = s.cr4;
    return out;
}

template <class T> std::string_view text_of(const T& value) {
    return {reinterpret_cast<const char*>(&value), sizeof value}; // NOLINT: bytes as characters
}

Result<void> write_at(int file, std::span<const std::byte> bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
        const auto count = ::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return fail_errno(Errc::output_unwritable, "cannot write the dump", "is the disk full?");
        bytes = bytes.subspan(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    return {};
}

/// What the guest has not touched stays a hole.
Result<void> write_ram(int file, std::span<const std::byte> ram, std::uint64_t offset, const std::atomic<bool>& stop) {
    Result<void> written{};
    TRY_VOID(for_each_touched(ram, [&](std::span<const std::byte> run) {
        written = stop.load(std::memory_order_relaxed)
                      ? fail(Errc::wrong_state, "the dump was given up")
                      : write_at(file, run, offset + static_cast<std::uint64_t>(run.data() - ram.data()));
        return written.has_value();
    }));
    return written;
}

} // namespace

Vmcore::Vmcore(const GuestMemory& memory, std::span<const CoreCpu> cpus, std::string_view info) : memory_{memory} {
    std::string notes;
    for (std::size_t i = 0; i < cpus.size(); ++i)
        append_note(notes, "CORE", NT_PRSTATUS, text_of(status_of(cpus[i], i)));
    for (const auto& cpu : cpus)
        append_note(notes, "QEMU", 0, text_of(state_of(cpu)));
    if (!info.empty())
        append_note(notes, "VMCOREINFO", 0, info);

    const auto regions = memory.regions();
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_CORE;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_phoff = sizeof header;
    header.e_ehsize = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = static_cast<Elf64_Half>(1 + regions.size());
    append(head_, header);

    const std::uint64_t notes_at = sizeof header + (1 + regions.size()) * sizeof(Elf64_Phdr);
    memory_at_ = align_up(notes_at + notes.size(), page_size);
    Elf64_Phdr note{};
    note.p_type = PT_NOTE;
    note.p_offset = notes_at;
    note.p_filesz = notes.size();
    note.p_memsz = notes.size();
    append(head_, note);
    size_ = memory_at_;
    for (const auto& region : regions) {
        Elf64_Phdr load{};
        load.p_type = PT_LOAD;
        load.p_flags = PF_R | PF_W | PF_X;
        load.p_offset = size_;
        load.p_paddr = region.range.start().raw();
        load.p_filesz = region.host.size();
        load.p_memsz = region.host.size();
        append(head_, load);
        size_ += region.host.size();
    }
    head_ += notes;
}

Result<void> Vmcore::write(int file, const std::atomic<bool>& stop) const {
    if (::ftruncate(file, static_cast<off_t>(size_)) != 0)
        return fail_errno(Errc::output_unwritable, "cannot make the dump as large as the guest",
                          "its file has to be a regular one");
    TRY_VOID(write_at(file, std::as_bytes(std::span{head_}), 0));
    std::uint64_t offset = memory_at_;
    for (const auto& region : memory_.regions()) {
        TRY_VOID(write_ram(file, region.host, offset, stop));
        offset += region.host.size();
    }
    return {};
}

} // namespace inox::boot
