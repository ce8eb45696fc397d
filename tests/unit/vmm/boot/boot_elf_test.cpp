// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf.hpp"

#include "tests/catch.hpp"
#include "tests/support/boot_images.hpp"

namespace inox::boot_elf_test {

using namespace inox::boot;
using tests::filled;

namespace {

constexpr std::uint32_t pvh = 18;

tests::Elf small_elf() { return tests::Elf{}.load(0x100000, filled(16, 0xf4), 0x2000); }

Result<ElfImage> parse(const tests::Bytes& bytes) { return parse_elf(Image::of(bytes, "k", Image::kernel)); }

void check_invalid(const tests::Elf& elf, const std::string& says) {
    const auto bytes = elf.bytes();
    const auto image = parse(bytes);
    INFO(says);
    REQUIRE_FALSE(image);
    CHECK(image.error().code == Errc::kernel_invalid);
    CHECK(image.error().what.find("kernel 'k'") == 0);
    CHECK(image.error().what.find(says) != std::string::npos);
    CHECK_FALSE(image.error().hint.empty());
}

} // namespace

TEST_CASE("an ELF kernel without a PVH note is entered at e_entry") {
    const auto bytes = small_elf().bytes();
    CHECK(is_elf(Image::of(bytes, "k", Image::kernel)));
    const auto image = parse(bytes);
    REQUIRE(image);
    CHECK(image->entry == Gpa{0x100000});
    CHECK_FALSE(image->pvh_entry);
    REQUIRE(image->segments.size() == 1);
    CHECK(image->segments[0].offset == tests::Elf::data_at);
    CHECK(image->segments[0].file_size == 16);
    CHECK(image->segments[0].memory_size == 0x2000);
}

TEST_CASE("a PVH note gives the 32-bit entry, with 4 or 8 bytes and behind other notes") {
    CHECK(parse(small_elf().note(pvh, tests::bytes_of(0x100004U)).bytes())->pvh_entry == Gpa{0x100004});
    CHECK(parse(small_elf().note(pvh, tests::bytes_of(0x100008UL)).bytes())->pvh_entry == Gpa{0x100008});

    auto elf = small_elf().note(6, filled(5, 0));
    tests::Bytes second;
    tests::put(second, 0, Elf64_Nhdr{4, 4, pvh});
    tests::put(second, 12, std::uint32_t{0x6e6558});
    tests::put(second, 16, std::uint32_t{0x10000c});
    elf.data.resize(elf.data.size() + 3); // the first description is padded to 4 bytes
    elf.data.insert(elf.data.end(), second.begin(), second.end());
    elf.program_headers.back().p_filesz += 3 + second.size();
    CHECK(parse(elf.bytes())->pvh_entry == Gpa{0x10000c});
}

TEST_CASE("a PVH kernel may have an e_entry of its own kind, such as a virtual address") {
    auto elf = small_elf().note(pvh, tests::bytes_of(0x100004U));
    elf.header.e_entry = 0xffffffff81000000;
    CHECK(parse(elf.bytes()));
}

TEST_CASE("damaged or foreign notes only cost the PVH entry") {
    CHECK_FALSE(parse(small_elf().note(pvh, filled(3, 1)).bytes())->pvh_entry);
    auto elf = small_elf().note(pvh, tests::bytes_of(0x100004U));
    auto& name = elf.data[elf.data.size() - 8];
    name = std::byte{'L'};
    CHECK_FALSE(parse(elf.bytes())->pvh_entry);
    auto long_name = small_elf().note(pvh, tests::bytes_of(0x100004U));
    tests::put(long_name.data, 16, Elf64_Nhdr{0xffffffff, 0xffffffff, pvh});
    CHECK_FALSE(parse(long_name.bytes())->pvh_entry);
}

TEST_CASE("an ELF that is not an x86-64 executable is refused by name") {
    auto elf = small_elf();
    elf.header.e_ident[EI_CLASS] = 3;
    check_invalid(elf, "64-bit nor 32-bit");
    elf = small_elf();
    elf.header.e_ident[EI_CLASS] = ELFCLASS32;
    check_invalid(elf, "machine 62");
    elf = small_elf();
    elf.header.e_ident[EI_DATA] = ELFDATA2MSB;
    check_invalid(elf, "little-endian");
    elf = small_elf();
    elf.header.e_machine = EM_AARCH64;
    check_invalid(elf, "machine 183");
    elf = small_elf();
    elf.header.e_type = ET_REL;
    check_invalid(elf, "not an executable");
    elf = small_elf().note(pvh, filled(4, 0));
    elf.program_headers[1].p_type = PT_INTERP;
    check_invalid(elf, "dynamic linker");
    check_invalid(tests::Elf{}, "0 program headers");
    check_invalid(tests::Elf{}.note(pvh, filled(4, 0)), "PT_LOAD");
}

TEST_CASE("ELF fields that point beyond the file are refused") {
    auto elf = small_elf();
    elf.header.e_phoff = ~0UL;
    check_invalid(elf, "e_phoff");
    elf = small_elf();
    elf.header.e_phnum = 1000;
    check_invalid(elf, "e_phoff");
    elf = small_elf();
    elf.program_headers[0].p_offset = ~0UL;
    check_invalid(elf, "segment 0");
    elf = small_elf();
    elf.program_headers[0].p_filesz = 17;
    check_invalid(elf, "segment 0");
    elf = small_elf().note(pvh, filled(4, 0));
    elf.program_headers[1].p_filesz = ~0UL;
    check_invalid(elf, "segment 1");
}

TEST_CASE("ELF segments that cannot be are refused") {
    auto elf = small_elf();
    elf.program_headers[0].p_memsz = 15;
    check_invalid(elf, "p_filesz");
    elf = small_elf();
    elf.program_headers[0].p_paddr = ~0UL;
    check_invalid(elf, "wrap");
    elf = small_elf();
    elf.header.e_entry = 0x102000;
    check_invalid(elf, "e_entry");
    check_invalid(small_elf().note(pvh, tests::bytes_of(0x300000U)), "PVH note");
}

TEST_CASE("a 32-bit ELF file has a PVH entry, or is told which loader it needs") {
    const auto image = parse(small_elf().note(pvh, tests::bytes_of(0x100004U)).bytes32());
    REQUIRE(image);
    CHECK(image->pvh_entry == Gpa{0x100004});
    CHECK(image->segments.size() == 1);
    CHECK(image->segments[0].start == Gpa{0x100000});
    const auto multiboot = parse(small_elf().bytes32());
    REQUIRE_FALSE(multiboot);
    CHECK(multiboot.error().what.find("without a PVH note") != std::string::npos);
    CHECK(multiboot.error().hint.find("Multiboot") != std::string::npos);
}

TEST_CASE("every truncation of an ELF kernel is refused") {
    const auto elf = small_elf().note(pvh, tests::bytes_of(0x100004U));
    for (const auto& whole : {elf.bytes(), elf.bytes32()}) {
        REQUIRE(parse(whole));
        for (std::size_t size = 0; size < whole.size(); ++size) {
            const tests::Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
            const auto image = parse(cut);
            REQUIRE_FALSE(image);
            REQUIRE(image.error().code == Errc::kernel_invalid);
        }
    }
}

} // namespace inox::boot_elf_test
