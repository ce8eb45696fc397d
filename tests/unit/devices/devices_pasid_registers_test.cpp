// SPDX-License-Identifier: Apache-2.0
#include "devices/pasid_registers.hpp"

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "iommu/pasid/pasid_commands.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/pasid_guest.hpp"
#include "tests/support/register_table.hpp"
#include "tests/support/registers.hpp"

namespace inox::devices_pasid_registers_test {

using devices::PasidRegisters;
using fakes::PasidGuest;
using iommu::GuestPasid;
using iommu::vcmd::Command;
using iommu::vcmd::Response;
using tests::in;
using tests::out;

namespace {

/// A driver that follows docs/guest-abi.md.
struct Driver {
    explicit Driver(std::uint32_t quota = 16) : guest{quota} {}
    PasidGuest guest;
    PasidRegisters registers{*guest.service};

    static std::uint64_t word(Command command, std::uint64_t pasid = 0, std::uint64_t endpoint = 0,
                              std::uint64_t flags = 0) {
        return static_cast<std::uint64_t>(command) | pasid << 16 | endpoint << 36 | flags;
    }
    std::uint64_t run(std::uint64_t command, std::uint64_t operand = 0) {
        out<std::uint64_t>(registers, PasidRegisters::operand, operand);
        out<std::uint64_t>(registers, PasidRegisters::command, command);
        const auto response = in<std::uint64_t>(registers, PasidRegisters::response);
        REQUIRE((response & 1) == 0);
        REQUIRE((response & 0xff00) == 0);
        return response;
    }
    Response status(std::uint64_t command, std::uint64_t operand = 0) {
        return static_cast<Response>(run(command, operand) >> 1 & 0x7f);
    }
    std::uint32_t allocate() {
        const auto response = run(word(Command::allocate));
        return (response >> 1 & 0x7f) == 0 ? static_cast<std::uint32_t>(response >> 16) : 0;
    }
    [[nodiscard]] static std::uint64_t endpoint() { return PasidGuest::endpoint.raw(); }
};

} // namespace

TEST_CASE("a driver finds the interface, what it can do and how many PASIDs it may have") {
    Driver driver{7};
    CHECK(in<std::uint32_t>(driver.registers, PasidRegisters::magic) == 0x584f4e49);
    CHECK(in<std::uint32_t>(driver.registers, PasidRegisters::version) == 1);
    CHECK(in<std::uint32_t>(driver.registers, PasidRegisters::quota) == 7);
    CHECK(in<std::uint32_t>(driver.registers, PasidRegisters::used) == 0);
    CHECK(driver.allocate() == 1);
    CHECK(in<std::uint32_t>(driver.registers, PasidRegisters::used) == 1);
    // Both meanings of bit 0: the specification's null command and Linux's allocation.
    CHECK(in<std::uint64_t>(driver.registers, PasidRegisters::capability) == 0x7'0000'0007);
    CHECK(driver.status(0) == Response::success);
}

TEST_CASE("PASIDs are allocated and freed as VT-d says") {
    Driver driver{2};
    CHECK(driver.run(1) == 1 << 16);
    CHECK(driver.run(1) == 2 << 16);
    CHECK(driver.run(1) == 16 << 1);
    CHECK(driver.run(2 | 1 << 16) == 0);
    CHECK(driver.run(2 | 1 << 16) == 16 << 1);
    CHECK(driver.run(Driver::word(Command::allocate, 0xabcde)) == 0xabcdeULL << 16);
    CHECK(driver.run(3) == 1 << 1);
    CHECK(driver.run(0xff) == 1 << 1);
}

TEST_CASE("page tables are bound, invalidated and unbound") {
    Driver driver;
    auto tables = driver.guest.tables(0, 5);
    tables.map(0x1000, 0x400000);
    const auto pasid = driver.allocate();
    using namespace iommu::vcmd;
    const auto bind = Driver::word(Command::bind, pasid, Driver::endpoint(), flag_five_levels | flag_privileged);
    CHECK(driver.status(bind, tables.root()) == Response::success);
    CHECK(driver.status(bind, tables.root()) == Response::bound);
    const auto binding = driver.guest.service->snapshot().pasids[0].bindings[0].table;
    CHECK(binding == iommu::PageTable{tables.root(), true, true, false, false});
    CHECK(driver.guest.service->submit(GuestPasid{pasid}));
    const auto invalidate = Driver::word(Command::invalidate, pasid, Driver::endpoint());
    CHECK(driver.status(invalidate) == Response::success);
    CHECK(driver.status(invalidate, 0x1001) == Response::success);
    CHECK(driver.status(invalidate, 0x1003) == Response::invalid); // not aligned to two pages
    CHECK(driver.status(invalidate, 0x1081) == Response::invalid);
    CHECK(driver.status(invalidate, 0x1000) == Response::invalid);
    CHECK(driver.status(invalidate, 1 | 52 << 1) == Response::success);
    CHECK(driver.status(invalidate, 1 | 53 << 1) == Response::invalid);
    const auto unbind = Driver::word(Command::unbind, pasid, Driver::endpoint());
    CHECK(driver.status(unbind) == Response::success);
    CHECK(driver.status(unbind) == Response::unbound);
    CHECK(driver.status(invalidate) == Response::unbound);
    CHECK(driver.run(Driver::word(Command::free, pasid)) == 0);
    CHECK(driver.guest.clean());
}

TEST_CASE("operands that make no sense change nothing") {
    Driver driver;
    const auto pasid = driver.allocate();
    CHECK(driver.status(Driver::word(Command::bind, pasid, 0x99), 0x1000) == Response::unknown_endpoint);
    CHECK(driver.status(Driver::word(Command::bind, pasid + 1, Driver::endpoint()), 0x1000) == Response::no_pasid);
    CHECK(driver.status(Driver::word(Command::bind, pasid, Driver::endpoint()), 0x1001) == Response::invalid);
    CHECK(driver.status(Driver::word(Command::bind, pasid, Driver::endpoint(), 1ULL << 56), 0x1000) ==
          Response::invalid);
    CHECK(driver.status(Driver::word(Command::unbind, pasid, Driver::endpoint(), 1ULL << 52)) == Response::invalid);
    CHECK(driver.status(Driver::word(Command::bind, pasid, Driver::endpoint()) | 0x100, 0x1000) == Response::invalid);
    CHECK(driver.guest.service->snapshot().pasids[0].id.total() == 1);
}

TEST_CASE("allocate and free look at the PASID alone, null at nothing") {
    Driver driver;
    constexpr std::uint64_t others = 0xffff'fff0'0000'ff00;
    CHECK(driver.run(Driver::word(Command::allocate, 5) | others, ~0ULL) == 5 << 16);
    CHECK(driver.run(Driver::word(Command::free, 5) | others, ~0ULL) == 0);
    CHECK(driver.status(Driver::word(Command::free) | others) == Response::no_pasid);
    CHECK(driver.run(~0xffULL, ~0ULL) == 0);
    CHECK(driver.guest.clean());
}

TEST_CASE("an operand is used once") {
    Driver driver;
    const auto pasid = driver.allocate();
    CHECK(driver.status(Driver::word(Command::free, pasid), 0x5000) == Response::success);
    CHECK(in<std::uint64_t>(driver.registers, PasidRegisters::operand) == 0);
    CHECK(in<std::uint64_t>(driver.registers, PasidRegisters::command) == 0);
}

TEST_CASE("registers can be used in halves, the low half of the command last") {
    Driver driver;
    out<std::uint32_t>(driver.registers, PasidRegisters::command + 4, 5); // PASID bits 19:16
    CHECK(in<std::uint64_t>(driver.registers, PasidRegisters::response) == 0);
    out<std::uint32_t>(driver.registers, PasidRegisters::command, 0x1234'0001);
    CHECK(in<std::uint32_t>(driver.registers, PasidRegisters::response) == 0x1234'0000);
    CHECK(in<std::uint32_t>(driver.registers, PasidRegisters::response + 4) == 5);
    CHECK(in<std::uint8_t>(driver.registers, PasidRegisters::response + 4) == 5);
}

TEST_CASE("the table for drivers' writers has every register, with its place, and says which can be written") {
    using R = PasidRegisters;
    const std::map<std::string, std::pair<std::uint64_t, unsigned>> expected{
        {"MAGIC", {R::magic, 4}},    {"VERSION", {R::version, 4}}, {"QUOTA", {R::quota, 4}},
        {"USED", {R::used, 4}},      {"VCMD", {R::command, 8}},    {"VCMD_EO", {R::operand, 8}},
        {"VCRSP", {R::response, 8}}, {"VCCAP", {R::capability, 8}}};
    Driver driver;
    std::set<std::uint64_t> known;
    for (const auto& row : tests::register_table("Finding it")) {
        INFO(row.name);
        REQUIRE(expected.contains(row.name));
        CHECK(expected.at(row.name) == std::pair{row.offset, row.bytes});
        for (unsigned at = 0; at < row.bytes; at += 4) {
            CHECK(known.insert(row.offset + at).second);
            const auto before = in<std::uint32_t>(driver.registers, row.offset + at);
            // Writes only the upper half of VCMD, because the lower half runs a command.
            if (row.name != "VCMD" || at != 0) {
                out<std::uint32_t>(driver.registers, row.offset + at, ~before);
                const bool changed = in<std::uint32_t>(driver.registers, row.offset + at) != before;
                CHECK(changed == (row.access == "rw"));
                out<std::uint32_t>(driver.registers, row.offset + at, before);
            }
        }
    }
    CHECK(known.size() == 4 + 4 * 2);
    for (std::uint64_t offset = 0; offset < page_size; offset += 4)
        if (!known.contains(offset)) {
            out<std::uint32_t>(driver.registers, offset, ~0U);
            CHECK(in<std::uint32_t>(driver.registers, offset) == 0);
        }
    CHECK(driver.guest.clean());
}

TEST_CASE("accesses of odd width or place are harmless") {
    Driver driver;
    out<std::uint8_t>(driver.registers, PasidRegisters::command, 1);
    out<std::uint16_t>(driver.registers, PasidRegisters::command, 1);
    out<std::uint64_t>(driver.registers, PasidRegisters::command + 4, ~0ULL);
    out<std::uint64_t>(driver.registers, PasidRegisters::response, ~0ULL);
    out<std::uint64_t>(driver.registers, PasidRegisters::capability, ~0ULL);
    CHECK(in<std::uint16_t>(driver.registers, PasidRegisters::magic + 1) == 0x4f4e);
    CHECK(in<std::uint32_t>(driver.registers, PasidRegisters::version + 2) == 0); // crosses into the next register
    std::array<std::byte, 64> wide;
    wide.fill(std::byte{1});
    driver.registers.write(PasidRegisters::command, wide);
    driver.registers.read(PasidRegisters::command, wide);
    CHECK(wide[0] == std::byte{0});
    CHECK(in<std::uint64_t>(driver.registers, 0x800) == 0);
    CHECK(in<std::uint64_t>(driver.registers, PasidRegisters::response) == 0);
    CHECK(driver.guest.clean());
}

TEST_CASE("while a command runs, others are dropped and the response says so") {
    Driver driver;
    const auto tables = driver.guest.tables(0);
    const auto pasid = driver.allocate();
    REQUIRE(driver.status(Driver::word(Command::bind, pasid, Driver::endpoint()), tables.root()) == Response::success);
    const auto memory = driver.guest.service->memory(PasidGuest::endpoint, driver.guest.host(GuestPasid{pasid}));
    auto hold = std::optional{memory->hold()};
    std::thread other{[&] { (void)driver.run(Driver::word(Command::unbind, pasid, Driver::endpoint())); }};
    while ((in<std::uint64_t>(driver.registers, PasidRegisters::response) & 1) == 0)
        std::this_thread::yield();
    out<std::uint64_t>(driver.registers, PasidRegisters::command, Driver::word(Command::free, pasid));
    CHECK(in<std::uint64_t>(driver.registers, PasidRegisters::response) == 1);
    hold.reset();
    other.join();
    CHECK(in<std::uint64_t>(driver.registers, PasidRegisters::response) == 0);
    CHECK(driver.guest.host(GuestPasid{pasid}) != iommu::HostPasid{});
}

} // namespace inox::devices_pasid_registers_test
