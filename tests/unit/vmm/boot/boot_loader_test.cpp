// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/loader.hpp"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stop_token>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/support/boot_images.hpp"
#include "vmm/boot/gzip.hpp"
#include "vmm/boot/hello.hpp"
#include "vmm/boot/image.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot_loader_test {

using namespace inox::boot;
using tests::Bytes;
using tests::filled;

namespace {

constexpr std::uint32_t pvh = 18;

GuestMemory ram(std::uint64_t size) { return GuestMemory::create(size, HugePages::none).value(); }

tests::Elf elf_at(std::uint64_t address, std::uint64_t size = 0x2000) {
    tests::Elf elf;
    elf.header.e_entry = address;
    return elf.load(address, filled(16, 0xf4), size);
}

Result<Loaded> load_bytes(const GuestMemory& memory, const Bytes& kernel, const Bytes* initrd = nullptr,
                          const std::string& cmdline = {}) {
    const Image kernel_image = Image::of(kernel, "k", Image::kernel);
    if (!initrd)
        return load_images(kernel_image, nullptr, {.cmdline = cmdline}, memory);
    const Image initrd_image = Image::of(*initrd, "i", Image::initrd);
    return load_images(kernel_image, &initrd_image, {.cmdline = cmdline}, memory);
}

void check_refused(const Result<Loaded>& loaded, Errc code, const std::string& says) {
    INFO(says);
    REQUIRE_FALSE(loaded);
    INFO(loaded.error().what);
    CHECK(loaded.error().code == code);
    CHECK(loaded.error().what.find(says) != std::string::npos);
    CHECK_FALSE(loaded.error().hint.empty());
}

Bytes guest_bytes(const GuestMemory& memory, Gpa start, std::uint64_t size) {
    Bytes bytes(size);
    REQUIRE(memory.read(start, bytes));
    return bytes;
}

std::string guest_text(const GuestMemory& memory, Gpa start, std::size_t size) {
    const Bytes bytes = guest_bytes(memory, start, size);
    return {reinterpret_cast<const char*>(bytes.data()), size}; // NOLINT: bytes as text
}

boot_params params_of(const GuestMemory& memory) {
    boot_params params{};
    REQUIRE(memory.read(layout::boot_params, std::as_writable_bytes(std::span{&params, 1})));
    return params;
}

/// A folder that is removed at the end of the test.
struct TempFolder {
    std::filesystem::path path;
    TempFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "inox-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()));
        path = name;
    }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;
    ~TempFolder() { std::filesystem::remove_all(path); }
    [[nodiscard]] std::string file(const std::string& name, const Bytes& bytes) const {
        std::ofstream out{path / name, std::ios::binary};
        out.write(reinterpret_cast<const char*>(bytes.data()), // NOLINT: bytes as text
                  static_cast<std::streamsize>(bytes.size()));
        return path / name;
    }
};

} // namespace

TEST_CASE("a bzImage is entered at its 64-bit entry and finds its own header in boot_params") {
    const auto memory = ram(64 * MiB);
    const auto kernel = tests::BzImage{}.bytes();
    const Bytes initrd = filled(5000, 0x11);
    const auto loaded = load_bytes(memory, kernel, &initrd, "console=ttyS0 quiet");
    REQUIRE(loaded);
    CHECK(loaded->kind == KernelKind::bzimage);
    CHECK(loaded->entry.mode == Entry::Mode::linux64);
    CHECK(loaded->entry.rip == Gpa{0x400200});
    CHECK(loaded->entry.boot_info == layout::boot_params);
    CHECK(loaded->kernel == *Range<Gpa>::sized(Gpa{0x400000}, 0x100000));
    CHECK(guest_bytes(memory, Gpa{0x400000}, 0x401) == [] {
        Bytes expected = filled(0x400, 0xc3);
        expected.push_back(std::byte{0});
        return expected;
    }());

    const boot_params params = params_of(memory);
    // CHECK would bind references to fields of packed structures, so + makes values of them.
    CHECK(+params.hdr.header == 0x53726448);
    CHECK(+params.hdr.version == 0x020f);
    CHECK(+params.hdr.init_size == 0x100000);
    CHECK(+params.hdr.type_of_loader == 0xff);
    CHECK(+params.hdr.cmd_line_ptr == layout::cmdline.raw());
    CHECK(+params.hdr.ramdisk_image == 64 * MiB - 0x2000);
    CHECK(+params.hdr.ramdisk_size == 5000);
    CHECK(+params.acpi_rsdp_addr == layout::acpi_tables.start().raw());
    CHECK(+params.sentinel == 0);
    CHECK(guest_text(memory, layout::cmdline, 20) == std::string{"console=ttyS0 quiet\0", 20});
    CHECK(guest_bytes(memory, loaded->initrd->start(), 5000) == initrd);
}

TEST_CASE("the memory map has a hole below 1 MiB, the ECAM, and goes on at 4 GiB") {
    const auto memory = ram(4 * GiB);
    REQUIRE(load_bytes(memory, elf_at(0x100000).bytes()));
    const boot_params params = params_of(memory);
    const auto check = [&](unsigned index, std::uint64_t start, std::uint64_t end, unsigned type) {
        CHECK(+params.e820_table[index].addr == start);
        CHECK(+params.e820_table[index].addr + params.e820_table[index].size == end);
        CHECK(+params.e820_table[index].type == type);
    };
    REQUIRE(params.e820_entries == 5);
    check(0, 0, 0x9fc00, 1);
    check(1, 0x9fc00, 0x100000, 2);
    check(2, 0x100000, 0xc0000000, 1);
    check(3, 0xe0000000, 0xe0100000, 2);
    check(4, 4 * GiB, 5 * GiB, 1);
}

TEST_CASE("an ELF kernel with a PVH note gets a start info with module, memory map and RSDP") {
    const auto memory = ram(64 * MiB);
    const Bytes initrd = filled(100, 0x22);
    const auto loaded =
        load_bytes(memory, elf_at(0x100000).note(pvh, tests::bytes_of(0x100010U)).bytes(), &initrd, "hi");
    REQUIRE(loaded);
    CHECK(loaded->kind == KernelKind::elf_pvh);
    CHECK(loaded->entry.mode == Entry::Mode::pvh32);
    CHECK(loaded->entry.rip == Gpa{0x100010});
    const auto word = [&](Gpa base, std::uint64_t offset) { return std::uint64_t{*memory.read<Le64>(base + offset)}; };
    const auto half = [&](Gpa base, std::uint64_t offset) { return std::uint32_t{*memory.read<Le32>(base + offset)}; };
    const Gpa info = loaded->entry.boot_info;
    CHECK(half(info, 0) == 0x336ec578);
    CHECK(half(info, 4) == 1);
    CHECK(half(info, 12) == 1);
    CHECK(word(info, 24) == layout::cmdline.raw());
    CHECK(word(info, 32) == layout::acpi_tables.start().raw());
    CHECK(half(info, 48) == 4);
    const Gpa module{word(info, 16)};
    CHECK(word(module, 0) == loaded->initrd->start().raw());
    CHECK(word(module, 8) == 100);
    const Gpa third{word(info, 40) + 2 * 24};
    CHECK(word(third, 0) == 1 * MiB);
    CHECK(word(third, 8) == 63 * MiB);
    CHECK(half(third, 16) == 1);
}

TEST_CASE("an ELF kernel without a note gets boot_params with a header of inox's making") {
    const auto memory = ram(64 * MiB);
    const auto loaded = load_bytes(memory, elf_at(0x200000).bytes());
    REQUIRE(loaded);
    CHECK(loaded->kind == KernelKind::elf64);
    CHECK(loaded->entry.rip == Gpa{0x200000});
    const boot_params params = params_of(memory);
    CHECK(+params.hdr.boot_flag == 0xaa55);
    CHECK(+params.hdr.header == 0x53726448);
    CHECK(+params.hdr.type_of_loader == 0xff);
}

TEST_CASE("a kernel that lies where it cannot is refused before anything is read") {
    const auto memory = ram(64 * MiB);
    const auto refused = [&](const tests::Elf& elf, const std::string& says) {
        check_refused(load_bytes(memory, elf.bytes()), Errc::kernel_does_not_fit, says);
    };
    refused(elf_at(64 * MiB), "not all guest RAM");
    refused(elf_at(64 * MiB - 0x1000), "not all guest RAM");
    refused(elf_at(0x9f000), "not all guest RAM");
    refused(elf_at(layout::acpi_tables.start().raw()), "not all guest RAM");
    refused(elf_at(0x500), "overlaps the boot GDT");
    refused(elf_at(0x6000), "overlaps the boot parameters");
    refused(elf_at(0xa000), "overlaps the boot page tables");
    refused(elf_at(0x2f000), "overlaps the command line");
    refused(elf_at(0x100000).load(0x101fff, filled(1, 1), 1),
            "segment 1, at 0x101fff..0x101fff overlaps kernel 'k', segment 0,");
    auto empty_segments = elf_at(0x100000).load(0x101fff, {}, 0);
    CHECK(load_bytes(memory, empty_segments.bytes()));
}

TEST_CASE("a bzImage needs memory for what it unpacks") {
    tests::BzImage kernel;
    kernel.header.init_size = 61 * MiB;
    const auto refused = load_bytes(ram(64 * MiB), kernel.bytes());
    check_refused(refused, Errc::kernel_does_not_fit, "not all guest RAM");
    CHECK(refused.error().hint.find("at least 65M") != std::string::npos);
    kernel.header.pref_address = 0xffffffffffe00000;
    check_refused(load_bytes(ram(64 * MiB), kernel.bytes()), Errc::kernel_does_not_fit, "not a range");
    kernel.header.pref_address = ~0UL;
    check_refused(load_bytes(ram(64 * MiB), kernel.bytes()), Errc::kernel_does_not_fit, "kernel 'k'");
}

TEST_CASE("an initrd goes as high as kernel and memory allow, on a page of its own") {
    const Bytes initrd = filled(0x1001, 0x33);
    CHECK(load_bytes(ram(64 * MiB), tests::BzImage{}.bytes(), &initrd)->initrd->start() == Gpa{64 * MiB - 0x2000});
    tests::BzImage low;
    low.header.initrd_addr_max = 0x37fffff;
    CHECK(load_bytes(ram(64 * MiB), low.bytes(), &initrd)->initrd->start() == Gpa{0x37fe000});
    CHECK(load_bytes(ram(4 * GiB), elf_at(0x100000).bytes(), &initrd)->initrd->start() == Gpa{0xc0000000 - 0x2000});
    // With a kernel at the top of memory, the initrd lies below it.
    CHECK(load_bytes(ram(64 * MiB), elf_at(64 * MiB - 0x2000).bytes(), &initrd)->initrd->start() ==
          Gpa{64 * MiB - 0x4000});
}

TEST_CASE("an initrd without room is refused") {
    const Bytes initrd = filled(3 * MiB, 0x33);
    check_refused(load_bytes(ram(4 * MiB), elf_at(0x100000).bytes(), &initrd), Errc::initrd_does_not_fit, "3072 KiB");
    tests::BzImage kernel;
    kernel.header.initrd_addr_max = 0x1fffff;
    check_refused(load_bytes(ram(64 * MiB), kernel.bytes(), &initrd), Errc::initrd_does_not_fit, "initrd 'i'");
    kernel.header.initrd_addr_max = 0;
    check_refused(load_bytes(ram(64 * MiB), kernel.bytes(), &initrd), Errc::initrd_does_not_fit, "initrd 'i'");
}

TEST_CASE("a command line is as long as the kernel takes, and no longer") {
    tests::BzImage kernel;
    kernel.header.cmdline_size = 255;
    CHECK(load_bytes(ram(64 * MiB), kernel.bytes(), nullptr, std::string(255, 'a')));
    check_refused(load_bytes(ram(64 * MiB), kernel.bytes(), nullptr, std::string(256, 'a')), Errc::cmdline_too_long,
                  "256 bytes");
    kernel.header.cmdline_size = ~0U;
    check_refused(load_bytes(ram(64 * MiB), kernel.bytes(), nullptr, std::string(64 * KiB, 'a')),
                  Errc::cmdline_too_long, "takes 65535");
    CHECK(load_bytes(ram(64 * MiB), kernel.bytes(), nullptr, std::string(64 * KiB - 1, 'a')));
    check_refused(load_bytes(ram(64 * MiB), elf_at(0x100000).bytes(), nullptr, std::string(2048, 'a')),
                  Errc::cmdline_too_long, "takes 2047");
}

TEST_CASE("without a kernel the built-in guest is loaded") {
    const auto memory = ram(layout::min_ram);
    const auto loaded = load({}, memory);
    REQUIRE(loaded);
    CHECK(loaded->kind == KernelKind::hello);
    CHECK(loaded->entry.rip == layout::high_ram);
    const auto image = hello_image();
    CHECK(image.size() < 4 * KiB);
    CHECK(guest_bytes(memory, layout::high_ram, image.size()) == Bytes(image.begin(), image.end()));
    check_refused(load({.initrd = "x"}, memory), Errc::kernel_missing, "no kernel");
}

TEST_CASE("what is not a kernel is named for what it is") {
    const auto memory = ram(4 * MiB);
    const auto refused = [&](std::string_view start, const std::string& says) {
        Bytes bytes = filled(100, 0);
        std::memcpy(bytes.data(), start.data(), start.size());
        check_refused(load_bytes(memory, bytes), Errc::kernel_invalid, says);
    };
    refused("\x1f\x8b", "gzip archive is damaged");
    refused({"\xfd"
             "7zXZ\0",
             6},
            "xz");
    refused("\x28\xb5\x2f\xfd", "zstd");
    refused("MZ", "EFI");
    refused("070701", "cpio");
    refused("hello", "neither");
    Bytes arm = filled(100, 0);
    std::memcpy(arm.data() + 56, "ARM\x64", 4);
    check_refused(load_bytes(memory, arm), Errc::kernel_invalid, "arm64");
    check_refused(load_bytes(memory, filled(1, 0)), Errc::kernel_invalid, "neither");
}

TEST_CASE("a kernel in gzip is unpacked, whatever kernel it is") {
    const auto memory = ram(64 * MiB);
    const auto elf = elf_at(0x100000).note(pvh, tests::bytes_of(0x100000U));
    CHECK(load_bytes(memory, tests::gzipped(elf.bytes()))->kind == KernelKind::elf_pvh);
    CHECK(guest_bytes(memory, Gpa{0x100000}, 16) == filled(16, 0xf4));
    CHECK(load_bytes(ram(64 * MiB), tests::gzipped(tests::BzImage{}.bytes()))->kind == KernelKind::bzimage);
    const auto grub = load_bytes(ram(64 * MiB), tests::gzipped(elf.bytes32()));
    CHECK(grub->entry.mode == Entry::Mode::pvh32);

    const auto refused = [&](const Bytes& file, const std::string& says) {
        check_refused(load_bytes(memory, file), Errc::kernel_invalid, says);
    };
    refused(tests::gzipped(filled(100, 7)), "(unpacked): not a kernel");
    refused(tests::gzipped(tests::gzipped(elf.bytes())), "gzip");
    auto cut = tests::gzipped(elf.bytes());
    cut.resize(cut.size() - 9);
    refused(cut, "ends early");
    auto damaged = tests::gzipped(elf.bytes());
    damaged[damaged.size() - 5] ^= std::byte{1}; // a byte of the checksum
    refused(damaged, "damaged");
}

TEST_CASE("an archive's members follow each other, and what is no member is left alone") {
    Bytes file = tests::gzipped(filled(70000, 1));
    const Bytes second = tests::gzipped(filled(5, 2));
    file.insert(file.end(), second.begin(), second.end());
    const auto unpack = [](const Bytes& bytes, std::uint64_t largest = largest_unpacked) -> Result<std::uint64_t> {
        const Image archive = Image::of(bytes, "k", Image::kernel);
        Image inside = TRY(gunzip(archive, largest));
        TRY_VOID(inside.measure());
        return inside.size();
    };
    CHECK(unpack(file).value() == 70005);
    CHECK(unpack(file, 70005).value() == 70005);
    file.insert(file.end(), 512, std::byte{0});
    CHECK(unpack(file).value() == 70005);
    const auto bomb = unpack(file, 70004);
    REQUIRE_FALSE(bomb);
    CHECK(bomb.error().code == Errc::kernel_invalid);
    CHECK(bomb.error().what.find("unpacks to more than") != std::string::npos);
}

namespace {

/// In KiB: the largest since the last call of forget_peak().
std::uint64_t peak_memory() {
    std::ifstream status{"/proc/self/status"};
    for (std::string word; status >> word;)
        if (word == "VmHWM:") {
            std::uint64_t size = 0;
            status >> size;
            return size;
        }
    return 0;
}
void forget_peak() { std::ofstream{"/proc/self/clear_refs"} << "5"; }

/// 1 MiB for the guest, followed by text that only a debugger needs.
Bytes with_debug_information(std::size_t size) {
    Bytes bytes = elf_at(0x100000).load(0x200000, filled(1 * MiB, 7), 1 * MiB).bytes();
    bytes.resize(bytes.size() + size);
    return bytes;
}

} // namespace

TEST_CASE("a kernel in gzip is unpacked into guest memory and nowhere else") {
    const auto memory = ram(16 * MiB);
    const Bytes packed = tests::gzipped(with_debug_information(128 * MiB));
    forget_peak();
    const auto before = peak_memory();
    REQUIRE(before > 0);
    REQUIRE(load_bytes(memory, packed));
    CHECK(guest_bytes(memory, Gpa{0x200000}, 1 * MiB) == filled(1 * MiB, 7));
    CHECK(peak_memory() - before < 32 * MiB / KiB);
}

TEST_CASE("a kernel in gzip that does not fit is refused before it is unpacked") {
    const auto memory = ram(16 * MiB);
    Bytes packed = tests::gzipped(elf_at(0x100000).load(0x200000, filled(100 * KiB, 7), 64 * MiB).bytes());
    packed.resize(packed.size() - 100); // reading to the end would report this
    check_refused(load_bytes(memory, packed), Errc::kernel_does_not_fit, "segment 1");
}

TEST_CASE("loading ends soon once the start is stopped") {
    using Clock = std::chrono::steady_clock;
    const TempFolder folder;
    const std::string kernel = folder.file("kernel", tests::gzipped(with_debug_information(192 * MiB)));
    const auto memory = ram(16 * MiB);
    const auto begun = Clock::now();
    REQUIRE(load({.kernel = kernel}, memory));
    const auto whole = Clock::now() - begun;

    std::stop_source stop;
    Clock::time_point stopped;
    std::jthread stopper{[&] {
        std::this_thread::sleep_for(whole / 10);
        stopped = Clock::now();
        stop.request_stop();
    }};
    const auto loaded = load({.kernel = kernel, .stop = stop.get_token()}, memory);
    const auto ended = Clock::now();
    stopper.join();
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().code == Errc::wrong_state);
    CHECK(ended - stopped < whole / 2);

    // Files that are not archives are read in pieces, too.
    const std::string plain = folder.file("plain", elf_at(0x100000).bytes());
    CHECK(load({.kernel = plain, .stop = stop.get_token()}, memory).error().code == Errc::wrong_state);
    const std::string initrd = folder.file("initrd", filled(100, 1));
    CHECK(load({.kernel = plain, .initrd = initrd, .stop = stop.get_token()}, memory).error().code ==
          Errc::wrong_state);
}

TEST_CASE("an archive is gone through a few times only, whatever the order of the kernel's parts") {
    const Bytes packed = tests::gzipped(filled(1 * MiB, 3));
    const Image archive = Image::of(packed, "k", Image::kernel);
    const auto inside = gunzip(archive).value();
    Bytes some(100);
    REQUIRE(inside.read(900 * KiB, some));
    CHECK(some == filled(100, 3));
    REQUIRE(inside.read(100, some)); // the head stays in memory
    Result<void> read{};
    unsigned backward = 0;
    for (; read && backward < 100; ++backward)
        read = inside.read((800 - backward) * KiB, some);
    CHECK(backward > 4);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == Errc::kernel_invalid);
}

TEST_CASE("a bzImage without a 64-bit entry is entered in 32-bit mode, through a GDT that fits") {
    const auto memory = ram(64 * MiB);
    tests::BzImage kernel;
    kernel.header.xloadflags = 0;
    const auto loaded = load_bytes(memory, kernel.bytes());
    REQUIRE(loaded);
    CHECK(loaded->entry.mode == Entry::Mode::linux32);
    CHECK(loaded->entry.rip == Gpa{0x400000});
    CHECK(std::uint64_t{*memory.read<Le64>(layout::gdt + 0x10)} == 0x00cf9b000000ffff);
    CHECK(+params_of(memory).hdr.header == 0x53726448);
}

TEST_CASE("a kernel file's segments reach guest memory with any kind of pages") {
    const TempFolder folder;
    for (const HugePages pages : {HugePages::none, HugePages::transparent}) {
        const auto memory = GuestMemory::create(64 * MiB, pages).value();
        const std::string kernel =
            folder.file("kernel", elf_at(0x100000).load(0x200800, filled(5000, 7), 9000).bytes());
        REQUIRE(load({.kernel = kernel}, memory));
        CHECK(guest_bytes(memory, Gpa{0x100000}, 16) == filled(16, 0xf4));
        CHECK(guest_bytes(memory, Gpa{0x200800}, 5000) == filled(5000, 7));
        CHECK(guest_bytes(memory, Gpa{0x200800 + 5000}, 4000) == filled(4000, 0));
    }
}

TEST_CASE("kernel and initrd files that cannot be read are named with the reason") {
    const TempFolder folder;
    const auto memory = ram(64 * MiB);
    const std::string kernel = folder.file("kernel", tests::BzImage{}.bytes());
    const std::string initrd = folder.file("initrd", filled(10, 1));
    const auto loaded = load({.kernel = kernel, .initrd = initrd}, memory);
    REQUIRE(loaded);
    CHECK(guest_bytes(memory, loaded->initrd->start(), 11) == [] {
        Bytes expected = filled(10, 1);
        expected.push_back(std::byte{0});
        return expected;
    }());
    CHECK(guest_bytes(memory, Gpa{0x400000}, 0x400) == filled(0x400, 0xc3));

    const std::string absent = folder.path / "absent";
    const auto missing = load({.kernel = absent}, memory);
    check_refused(missing, Errc::kernel_missing, "kernel '" + absent + "'");
    CHECK(missing.error().sys_errno == ENOENT);
    check_refused(load({.kernel = kernel, .initrd = absent}, memory), Errc::initrd_missing, "initrd '" + absent + "'");
    check_refused(load({.kernel = folder.path}, memory), Errc::kernel_missing, "is a directory");
    check_refused(load({.kernel = kernel, .initrd = folder.path}, memory), Errc::initrd_missing, "is a directory");
    check_refused(load({.kernel = folder.file("empty", {})}, memory), Errc::kernel_invalid, "is empty");

    const std::string fifo = folder.path / "fifo";
    REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
    check_refused(load({.kernel = fifo}, memory), Errc::kernel_missing, "is not a file");

    if (::geteuid() != 0) { // root may read everything
        REQUIRE(::chmod(kernel.c_str(), 0) == 0);
        check_refused(load({.kernel = kernel}, memory), Errc::kernel_missing, "Permission denied");
    }
}

TEST_CASE("a file that shrinks while it is read is an error, not a crash") {
    const TempFolder folder;
    const std::string path = folder.file("kernel", filled(10000, 1));
    const auto image = Image::open(path, Image::kernel);
    REQUIRE(image);
    REQUIRE(::truncate(path.c_str(), 5000) == 0);
    Bytes out(10000);
    const auto read = image->read(0, out);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == Errc::kernel_invalid);
    CHECK(read.error().what.find("ends before") != std::string::npos);
}

} // namespace inox::boot_loader_test
