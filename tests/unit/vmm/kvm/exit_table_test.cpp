// SPDX-License-Identifier: Apache-2.0
// Exits counted by reason and place.
#include "vmm/kvm/exit_table.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/support/files.hpp"
#include "vmm/instance/exits/report.hpp"

namespace inox::exit_table_test {

namespace {

std::array<std::byte, 8> bytes{};

VmExit port(std::uint16_t number, bool write) {
    return vm_exit::Port{IoPort{number}, write, 1, std::span{bytes}.first(1)};
}
VmExit memory(std::uint64_t address, bool write) { return vm_exit::Mmio{Gpa{address}, write, bytes}; }

std::vector<ExitCount> counts_of(const ExitTable& table) {
    std::vector<ExitCount> counts;
    table.collect(counts);
    merge(counts);
    return counts;
}

std::uint64_t total(const std::vector<ExitCount>& counts) {
    std::uint64_t sum = 0;
    for (const auto& one : counts)
        sum += one.count;
    return sum;
}

} // namespace

TEST_CASE("exits are told apart by reason, direction and place, the most frequent first") {
    ExitTable table;
    for (int i = 0; i < 5; ++i)
        table.count(port(0x3f8, true));
    for (int i = 0; i < 3; ++i)
        table.count(port(0x3f8, false));
    table.count(memory(0x3f8, true));
    table.count(memory(0xfffffffff8, false));
    table.count(port(0, false));
    table.count(port(0, false));
    std::uint64_t data = 0;
    std::uint8_t failed = 0;
    table.count(vm_exit::MsrAccess{true, 0xd93, &data, &failed});
    table.count(vm_exit::Halt{});
    table.count(vm_exit::Interrupted{});
    table.count(vm_exit::Shutdown{});
    const auto counts = counts_of(table);
    CHECK(total(counts) == 16);
    CHECK(counts.at(0).count == 5);
    CHECK(exits_text(counts).starts_with("16 exits to user space\n"
                                         "           5  31.2 %  port write 0x3f8 (serial port)\n"
                                         "           3  18.8 %  port read 0x3f8 (serial port)\n"
                                         "           2  12.5 %  port read 0x0\n"));
    const auto text = exits_text(counts);
    for (const char* row : {"  memory write 0x3f8\n", "  memory read 0xfffffffff8\n", "  msr write 0xd93\n", "  halt\n",
                            "  interrupted\n", "  failure\n"})
        CHECK(text.find(row) != std::string::npos);
}

TEST_CASE("a guest that touches more places than the table has room for loses no exit") {
    ExitTable table;
    constexpr std::uint64_t places = 50'000;
    for (int i = 0; i < 10; ++i)
        table.count(memory(0xe0000000, false));
    for (std::uint64_t i = 0; i < places; ++i)
        table.count(memory(0xc0000000 + 4 * i, true));
    const auto counts = counts_of(table);
    CHECK(total(counts) == places + 10);
    CHECK(counts.size() <= 1026);
    CHECK(std::ranges::count_if(counts, [](const auto& one) { return !one.address; }) == 1);
    CHECK_FALSE(counts.at(0).address);
    CHECK(counts.at(1).count == 10);
    const auto text = exits_text(counts);
    CHECK(std::ranges::count(text, '\n') == 2 + most_exit_rows);
    CHECK(text.find("memory write elsewhere") != std::string::npos);
    CHECK(text.find("memory read 0xe0000000 (PCI configuration)") != std::string::npos);
}

TEST_CASE("tables of several vCPUs are added up") {
    ExitTable one;
    ExitTable two;
    one.count(port(0x70, true));
    two.count(port(0x70, true));
    two.count(port(0x71, false));
    std::vector<ExitCount> counts;
    one.collect(counts);
    two.collect(counts);
    merge(counts);
    REQUIRE(counts.size() == 2);
    CHECK(counts[0].count == 2);
    CHECK(exit_place_name(counts[0]) == "CMOS clock");
    merge(counts);
    CHECK(total(counts) == 3);
}

TEST_CASE("the table is read while a vCPU counts") {
    ExitTable table;
    std::atomic<bool> over{false};
    std::jthread vcpu{[&] {
        for (std::uint64_t i = 0; i < 200'000; ++i)
            table.count(port(static_cast<std::uint16_t>(i % 300), i % 2 != 0));
        over = true;
    }};
    std::uint64_t last = 0;
    while (!over) {
        const auto now = total(counts_of(table));
        CHECK(now >= last);
        last = now;
    }
    vcpu.join();
    CHECK(total(counts_of(table)) == 200'000);
}

TEST_CASE("the ending of the file's name chooses JSON or text") {
    ExitTable table;
    table.count(port(0x64, false));
    table.count(vm_exit::Halt{});
    const auto counts = counts_of(table);
    const std::string path = "/tmp/inox-exits-test." + std::to_string(::getpid());
    REQUIRE(write_exits(path + ".json", counts));
    REQUIRE(write_exits(path, counts));
    const auto json = nlohmann::json::parse(tests::slurp(path + ".json"));
    CHECK(json.at("total") == 2);
    CHECK(json.at("more") == 0);
    const auto& rows = json.at("exits");
    REQUIRE(rows.size() == 2);
    const auto& row = rows.at(rows.at(0).at("reason") == "port" ? 0 : 1);
    CHECK(row == nlohmann::json::parse(R"({"reason": "port", "access": "read", "address": "0x64",
                                           "place": "keyboard controller", "count": 1})"));
    CHECK(tests::slurp(path).starts_with("2 exits to user space\n"));
    CHECK(nlohmann::json::parse(exits_json({})).at("exits").empty());
    CHECK(write_exits("/nonexistent/e", counts).error().code == Errc::output_unwritable);
    ::unlink(path.c_str());
    ::unlink((path + ".json").c_str());
}

} // namespace inox::exit_table_test
