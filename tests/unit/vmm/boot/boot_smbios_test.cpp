// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/smbios.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <numeric>

#include "tests/catch.hpp"
#include "tests/support/files.hpp"
#include "vmm/boot/placement.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot_smbios_test {

using namespace inox::boot;

namespace {

constexpr std::size_t start = 0xf0000;

/// A structure as a guest reads it.
struct Found {
    std::string fields{};
    std::vector<std::string> strings{};
    /// The string that the byte at `at` names.
    [[nodiscard]] std::string text(std::size_t at) const {
        const auto number = static_cast<std::uint8_t>(fields.at(at));
        return number == 0 ? "" : strings.at(number - 1U);
    }
};

std::string bytes_at(const GuestMemory& memory, std::uint64_t at, std::size_t size) {
    std::string text(size, '\0');
    REQUIRE(memory.read(Gpa{at}, std::as_writable_bytes(std::span{text})));
    return text;
}

template <class T> T number(const std::string& bytes, std::size_t at) {
    return load_le<T>(std::as_bytes(std::span{bytes}).subspan(at, sizeof(T)));
}

struct Tables {
    explicit Tables(const SmbiosSystem& system = {}) {
        REQUIRE(write_smbios(system, memory));
        entry = bytes_at(memory, start, 24);
        const auto size = number<std::uint32_t>(entry, 12);
        const auto where = number<std::uint64_t>(entry, 16);
        REQUIRE(layout::smbios.contains(*Range<Gpa>::sized(Gpa{where}, size)));
        raw = bytes_at(memory, where, size);
        for (std::size_t at = 0; at < raw.size();) {
            const auto length = static_cast<std::uint8_t>(raw[at + 1]);
            Found found{.fields = raw.substr(at, length)};
            at += length;
            while (raw[at] != '\0') {
                found.strings.emplace_back(raw.c_str() + at);
                at += found.strings.back().size() + 1;
            }
            at += found.strings.empty() ? 2 : 1;
            order.push_back(static_cast<std::uint8_t>(found.fields[0]));
            structures[order.back()] = std::move(found);
        }
    }
    GuestMemory memory{GuestMemory::create(2 * MiB, HugePages::none).value()};
    std::string entry;
    std::string raw;
    std::vector<int> order;
    std::map<int, Found> structures;
};

const SmbiosSystem everything{.manufacturer = "M",
                              .product = "P",
                              .version = "V",
                              .serial = "ds=nocloud;s=http://10.0.0.1/",
                              .uuid = parse_uuid("00112233-4455-6677-8899-aAbBcCdDeEfF"),
                              .sku = "K",
                              .family = "F"};

} // namespace

TEST_CASE("the entry point is where kernels look, in memory that they leave alone, and its sum is 0") {
    const Tables tables;
    CHECK(tables.entry.starts_with("_SM3_"));
    CHECK(tables.entry[6] == 24);
    CHECK(std::accumulate(tables.entry.begin(), tables.entry.end(), std::uint8_t{0},
                          [](std::uint8_t sum, char c) { return static_cast<std::uint8_t>(sum + c); }) == 0);
    CHECK_FALSE(layout::smbios.overlaps(layout::acpi_tables));
    for (const auto& entry : memory_map(tables.memory))
        if (entry.range.overlaps(layout::smbios))
            CHECK(entry.type == MapEntry::Type::reserved);
    CHECK(tables.order == std::vector<int>{0, 1, 3, 32, 127});
}

TEST_CASE("the system has what was asked for") {
    const Tables tables{everything};
    const auto& system = tables.structures.at(1);
    CHECK(system.fields.size() == 27);
    CHECK(system.text(4) == "M");
    CHECK(system.text(5) == "P");
    CHECK(system.text(6) == "V");
    CHECK(system.text(7) == everything.serial);
    CHECK(system.fields.substr(8, 16) ==
          std::string{"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16});
    CHECK(system.text(25) == "K");
    CHECK(system.text(26) == "F");
    CHECK(tables.structures.at(3).text(7) == everything.serial);
    CHECK(tables.structures.at(3).fields.size() == 22);
    CHECK(tables.structures.at(0).fields.size() == 26);
    CHECK((tables.structures.at(0).fields[19] & 0x10) != 0); // a virtual machine
}

TEST_CASE("nothing is invented, and the longest texts fit") {
    const auto plain = Tables{}.structures.at(1);
    CHECK(plain.text(4) == "inox");
    CHECK(plain.text(7).empty());
    CHECK(plain.fields.substr(8, 16) == std::string(16, '\0'));
    const std::string longest(SmbiosSystem::longest, 'x');
    const Tables full{{longest, longest, longest, longest, everything.uuid, longest, longest}};
    CHECK(full.structures.at(1).text(26) == longest);
}

TEST_CASE("a UUID is 32 digits in five groups") {
    CHECK(parse_uuid("00112233-4455-6677-8899-aabbccddeeff"));
    for (const auto* text : {"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeefg",
                             "00112233+4455-6677-8899-aabbccddeeff", "0011223-34455-6677-8899-aabbccddeeff"})
        CHECK_FALSE(parse_uuid(text));
}

TEST_CASE("dmidecode reads the tables, where there is one") {
    if (std::system("command -v dmidecode >/dev/null") != 0) // NOLINT(*-env33-c, concurrency-mt-unsafe)
        return;
    char folder[] = "/tmp/inox-smbios.XXXXXX";
    REQUIRE(::mkdtemp(folder) != nullptr);
    const std::string dump = std::string{folder} + "/dump";
    const Tables tables{everything};
    auto entry = tables.entry; // in a dump, the tables follow at once
    entry.replace(16, 8, std::string{"\x20\0\0\0\0\0\0\0", 8});
    entry[5] = '\0';
    entry[5] = static_cast<char>(-std::accumulate(entry.begin(), entry.end(), 0));
    std::ofstream{dump} << entry << std::string(8, '\0') << tables.raw;
    const auto out = std::string{folder} + "/out";
    const auto status = std::system(("dmidecode --from-dump " + dump + " >" + out + " 2>&1").c_str()); // NOLINT
    const auto text = tests::slurp(out);
    INFO(text);
    CHECK(status == 0);
    for (const auto* line : {"SMBIOS 3.4.0 present", "Serial Number: ds=nocloud;s=http://10.0.0.1/", "Manufacturer: M",
                             "UUID: 00112233-4455-6677-8899-aabbccddeeff", "System is a virtual machine"})
        CHECK(text.contains(line));
    CHECK_FALSE(text.contains("TRUNCATED"));
    CHECK_FALSE(text.contains("Wrong"));
    (void)std::system(("rm -rf " + std::string{folder}).c_str()); // NOLINT
}

} // namespace inox::boot_smbios_test
