// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/symbols.hpp"

#include <cstring>
#include <fstream>
#include <unistd.h>

#include "tests/catch.hpp"

namespace inox::verdict_symbols_test {

namespace {

struct File {
    std::string path{"/tmp/inox-symbols-" + std::to_string(::getpid())};
    explicit File(std::string_view text) { std::ofstream{path} << text; }
    ~File() { ::unlink(path.c_str()); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
};

} // namespace

TEST_CASE("a System.map names the function that holds an address") {
    const File map{"0000000000000000 D per_cpu_start\nffffffff81000000 T _stext\nffffffff81000100 t do_idle\n"
                   "ffffffff81000180 D some_data\nffffffff81000200 T schedule\nbroken\nffffffff8100\n"};
    const auto symbols = Symbols::open(map.path);
    REQUIRE(symbols);
    CHECK(symbols->size() == 3);
    CHECK(symbols->at(0xffffffff81000100) == "do_idle+0");
    CHECK(symbols->at(0xffffffff810001ff) == "do_idle+0xff");
    CHECK(symbols->at(0xffffffff81000210) == "schedule+0x10");
    CHECK_FALSE(symbols->at(0xffffffff80ffffff));
    CHECK_FALSE(symbols->at(0xffffffff82000000));
    CHECK_FALSE(symbols->at(0x1000));
}

TEST_CASE("what names no function of a kernel is refused") {
    CHECK(Symbols::open("/nonexistent/System.map").error().code == Errc::kernel_missing);
    for (const std::string_view text : {std::string_view{""}, std::string_view{"hello\n"},
                                        std::string_view{"\x7f"
                                                         "ELF"}}) {
        const File file{text};
        CHECK(Symbols::open(file.path).error().code == Errc::kernel_invalid);
    }
    // A program has a symbol table, but no addresses of a kernel.
    CHECK(Symbols::open("/proc/self/exe").error().code == Errc::kernel_invalid);
}

TEST_CASE("an ELF file's symbol table is read, and a damaged one is refused") {
    // A header, a table of sections (null, symbols, strings), two symbols.
    std::string file(64, '\0');
    const auto put = [&](std::size_t at, auto value) {
        if (file.size() < at + sizeof value)
            file.resize(at + sizeof value);
        std::memcpy(file.data() + at, &value, sizeof value);
    };
    file.replace(0, 6,
                 std::string{"\x7f"
                             "ELF\2\1",
                             6});
    put(40, std::uint64_t{64}); // sections
    put(58, std::uint16_t{64});
    put(60, std::uint16_t{3});
    const auto section = [&](std::size_t number, std::uint32_t type, std::uint64_t offset, std::uint64_t size,
                             std::uint32_t link) {
        put(64 + number * 64 + 4, type);
        put(64 + number * 64 + 24, offset);
        put(64 + number * 64 + 32, size);
        put(64 + number * 64 + 40, link);
    };
    section(1, 2, 0x200, 48, 2);
    section(2, 3, 0x300, 16, 0);
    const auto symbol = [&](std::size_t number, std::uint32_t name, std::uint8_t info, std::uint64_t value) {
        put(0x200 + number * 24, name);
        put(0x200 + number * 24 + 4, info);
        put(0x200 + number * 24 + 6, std::uint16_t{1});
        put(0x200 + number * 24 + 8, value);
    };
    symbol(0, 1, 2, 0xffffffff81000000);
    symbol(1, 7, 2, 0xffffffff81000040);
    put(0x308, std::uint64_t{0});
    file.replace(0x300, 13, std::string{"\0first\0second", 13});
    {
        const File good{file};
        const auto symbols = Symbols::open(good.path);
        REQUIRE(symbols);
        CHECK(symbols->at(0xffffffff81000041) == "second+0x1");
    }
    file.replace(0x300, 16, std::string(16, 'n')); // names without an end, in a file that goes on with them
    file += std::string(100'000, 'n');
    put(64 + 128 + 32, std::uint64_t{100'000});
    {
        const File endless{file};
        const auto symbols = Symbols::open(endless.path);
        REQUIRE(symbols);
        CHECK(symbols->at(0xffffffff81000041)->size() < 600);
    }
    put(64 + 64 + 32, std::uint64_t{1} << 40); // a table larger than the file
    const File bad{file};
    CHECK(Symbols::open(bad.path).error().code == Errc::kernel_invalid);
}

} // namespace inox::verdict_symbols_test
