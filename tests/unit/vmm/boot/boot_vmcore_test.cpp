// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/vmcore.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>

#include "tests/catch.hpp"

namespace inox::boot_vmcore_test {

namespace {

struct Dump {
    UniqueFd file{::memfd_create("dump", MFD_CLOEXEC)};
    std::vector<std::byte> bytes{};

    explicit Dump(const boot::Vmcore& core) {
        const std::atomic<bool> stop{false};
        REQUIRE(core.write(file.get(), stop));
        auto mapped = Mapping::create(core.size(), PROT_READ, MAP_PRIVATE, file.get(), 0);
        REQUIRE(mapped);
        bytes.assign(mapped->bytes().begin(), mapped->bytes().end());
    }
    template <class T> [[nodiscard]] T at(std::uint64_t offset) const {
        T value{};
        REQUIRE(offset + sizeof value <= bytes.size());
        std::memcpy(&value, bytes.data() + offset, sizeof value);
        return value;
    }
};

struct Note {
    std::string name;
    std::uint32_t type;
    std::string text;
};

std::vector<Note> notes_of(const Dump& dump) {
    const auto header = dump.at<Elf64_Phdr>(sizeof(Elf64_Ehdr));
    REQUIRE(header.p_type == PT_NOTE);
    std::vector<Note> out;
    std::uint64_t at = header.p_offset;
    const auto take = [&](std::uint32_t size) {
        const std::string text(reinterpret_cast<const char*>(dump.bytes.data() + at), size);
        at = align_up(at + size, 4);
        return text;
    };
    while (at < header.p_offset + header.p_filesz) {
        const auto note = dump.at<Elf64_Nhdr>(at);
        at += sizeof note;
        auto name = take(note.n_namesz);
        out.push_back({std::move(name), note.n_type, take(note.n_descsz)});
    }
    return out;
}

template <class T> T field(const std::string& text, std::size_t offset) {
    T value{};
    REQUIRE(offset + sizeof value <= text.size());
    std::memcpy(&value, text.data() + offset, sizeof value);
    return value;
}

} // namespace

TEST_CASE("a dump has every region of RAM at its place, with holes for what was not touched") {
    const auto memory = GuestMemory::create(5 * GiB, HugePages::none);
    REQUIRE(memory);
    REQUIRE(memory->regions().size() == 2);
    REQUIRE(memory->write(Gpa{0x1234}, std::uint32_t{0xaabbccdd}));
    const Gpa high{4 * GiB + 0x5000};
    REQUIRE(memory->write(high, std::uint64_t{0x1122334455667788}));
    const boot::Vmcore core{*memory, {}, {}};
    UniqueFd file{::memfd_create("dump", MFD_CLOEXEC)};
    const std::atomic<bool> stop{false};
    REQUIRE(core.write(file.get(), stop));
    struct stat status {};
    REQUIRE(::fstat(file.get(), &status) == 0);
    CHECK(static_cast<std::uint64_t>(status.st_size) == core.size());
    CHECK(status.st_blocks * 512 < 1 << 20);
    for (unsigned i = 0; i < 2; ++i) {
        Elf64_Phdr load{};
        REQUIRE(::pread(file.get(), &load, sizeof load,
                        static_cast<off_t>(sizeof(Elf64_Ehdr) + (1 + i) * sizeof load)) == sizeof load);
        const auto& region = memory->regions()[i];
        CHECK(load.p_type == PT_LOAD);
        CHECK(load.p_paddr == region.range.start().raw());
        CHECK(load.p_filesz == region.host.size());
        std::uint64_t value = 0;
        const auto within = i == 0 ? 0x1234 : 0x5000;
        REQUIRE(::pread(file.get(), &value, sizeof value, static_cast<off_t>(load.p_offset) + within) == sizeof value);
        CHECK(value == (i == 0 ? 0xaabbccdd : 0x1122334455667788));
    }
}

TEST_CASE("a dump has the notes of each CPU, and what the kernel says of itself") {
    const auto memory = GuestMemory::create(64 * MiB, HugePages::none);
    REQUIRE(memory);
    std::vector<boot::CoreCpu> cpus(2);
    cpus[1].general.rip = 0xffffffff81012345;
    cpus[1].general.rsp = 0xffffc90000013e58;
    cpus[1].special.cr3 = 0x2610000;
    cpus[1].special.idt.base = 0xfffffe0000000000;
    cpus[1].special.gs.base = 0xffff88803dc00000;
    cpus[1].special.cs.selector = 0x10;
    cpus[1].special.cs.l = 1;
    cpus[1].special.cs.present = 1;
    cpus[1].special.cs.type = 11;
    const Dump dump{boot::Vmcore{*memory, cpus, "OSRELEASE=6.1.0\n"}};
    CHECK(dump.at<Elf64_Ehdr>(0).e_type == ET_CORE);
    const auto notes = notes_of(dump);
    REQUIRE(notes.size() == 5);
    CHECK(notes[1].name == std::string{"CORE\0", 5});
    CHECK(notes[1].type == NT_PRSTATUS);
    REQUIRE(notes[1].text.size() == 336);
    CHECK(field<std::int32_t>(notes[1].text, 32) == 2);
    CHECK(field<std::uint64_t>(notes[1].text, 112 + 16 * 8) == cpus[1].general.rip);
    CHECK(field<std::uint64_t>(notes[1].text, 112 + 19 * 8) == cpus[1].general.rsp);
    CHECK(field<std::uint64_t>(notes[1].text, 112 + 22 * 8) == cpus[1].special.gs.base);
    CHECK(notes[3].name == std::string{"QEMU\0", 5});
    REQUIRE(notes[3].text.size() == 432);
    CHECK(field<std::uint32_t>(notes[3].text, 4) == 432);
    CHECK(field<std::uint64_t>(notes[3].text, 8 + 16 * 8) == cpus[1].general.rip);
    constexpr std::size_t segments = 8 + 18 * 8;
    CHECK(field<std::uint32_t>(notes[3].text, segments + 8) == (11U << 8 | 1U << 15 | 1U << 21));
    CHECK(field<std::uint64_t>(notes[3].text, segments + 9 * 24 + 16) == cpus[1].special.idt.base);
    CHECK(field<std::uint64_t>(notes[3].text, segments + 10 * 24 + 3 * 8) == cpus[1].special.cr3);
    CHECK(notes[4].name == std::string{"VMCOREINFO\0", 11});
    CHECK(notes[4].text == "OSRELEASE=6.1.0\n");
}

TEST_CASE("a dump that is given up, or that has no room, says so") {
    const auto memory = GuestMemory::create(64 * MiB, HugePages::none);
    REQUIRE(memory);
    REQUIRE(memory->write(Gpa{0}, std::uint32_t{1}));
    const boot::Vmcore core{*memory, {}, {}};
    UniqueFd file{::memfd_create("dump", MFD_CLOEXEC)};
    const std::atomic<bool> stop{true};
    CHECK(core.write(file.get(), stop).error().code == Errc::wrong_state);
    UniqueFd full{::open("/dev/full", O_WRONLY | O_CLOEXEC)};
    CHECK(core.write(full.get(), std::atomic<bool>{false}).error().code == Errc::output_unwritable);
}

} // namespace inox::boot_vmcore_test
