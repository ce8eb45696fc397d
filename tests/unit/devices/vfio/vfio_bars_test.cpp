// SPDX-License-Identifier: Apache-2.0
// BARs of an assigned device: what the guest reaches without an exit, and at which addresses.
#include <filesystem>
#include <fstream>

#include "tests/catch.hpp"
#include "tests/fakes/assigned.hpp"
#include "tests/support/registers.hpp"

namespace inox::vfio_bars_test {

using namespace devices;
using namespace devices::vfio;
using fakes::Assigned, fakes::DeviceBuilder, fakes::nvme;

namespace {

RegionInfo region(std::uint64_t size, std::vector<RegionArea> areas) {
    return {.size = size, .readable = true, .writable = true, .areas = std::move(areas)};
}
std::vector<RegionArea> exitless(const RegionInfo& info, std::vector<RegionArea> trapped = {}) {
    return exitless_areas(info, trapped);
}
using Areas = std::vector<RegionArea>;

} // namespace

TEST_CASE("exitless areas are whole pages of what the host lets map, without the trapped pages") {
    CHECK(exitless(region(0x4000, {{0, 0x4000}})) == Areas{{0, 0x4000}});
    CHECK(exitless(region(0x4000, {})).empty());
    CHECK(exitless(region(0x800, {{0, 0x800}})).empty());
    CHECK(exitless(region(0x4000, {{0, 0x4000}}), {{0x2010, 0x20}}) == Areas{{0, 0x2000}, {0x3000, 0x1000}});
    CHECK(exitless(region(0x4000, {{0, 0x4000}}), {{0x1ff8, 0x10}}) == Areas{{0, 0x1000}, {0x3000, 0x1000}});
    CHECK(exitless(region(0x4000, {{0, 0x4000}}), {{0, 0x4000}}).empty());
    CHECK(exitless(region(0x4000, {{0, 0x4000}}), {{0x3ff0, 0x10}, {0, 8}}) == Areas{{0x1000, 0x2000}});
    // Sparse, unordered, with edges inside a page.
    CHECK(exitless(region(0x10000, {{0x8000, 0x2800}, {0x0, 0x1000}, {0x4800, 0x1800}})) ==
          Areas{{0, 0x1000}, {0x5000, 0x1000}, {0x8000, 0x2000}});
    CHECK(exitless(region(0x10000, {{0, 0x2000}, {0x4000, 0x2000}}), {{0x1000, 0x10}, {0x4000, 0x10}}) ==
          Areas{{0, 0x1000}, {0x5000, 0x1000}});
    // A host whose answers contradict each other.
    CHECK(exitless(region(0x4000, {{0, 0x8000}, {0x5000, 0x1000}, {~0ULL, 2}})).empty());
}

TEST_CASE("only the page of the MSI-X table and that of the pending bits are trapped") {
    Assigned guest;
    CHECK(guest.mappings.slots->empty());
    guest.decode();
    REQUIRE(guest.mappings.slots->size() == 1);
    CHECK(guest.mappings.slots->front().range == *Range<Gpa>::sized(Gpa{guest.bar(0)}, 0x2000));
    // The guest accesses the device's own bytes.
    guest.state->set<std::uint32_t>(0, 0x14, 0x00460001);
    CHECK(load_le<std::uint32_t>({guest.mappings.slots->front().host + 0x14, 4}) == 0x00460001);
}

TEST_CASE("registers beside the table are forwarded with the guest's width, the table's never") {
    Assigned guest{nvme(5)};
    guest.decode();
    guest.state->set<std::uint64_t>(0, 0x2050, 0x1122334455667788);
    CHECK(guest.bar_get<std::uint8_t>(0, 0x2057) == 0x11);
    CHECK(guest.bar_get<std::uint16_t>(0, 0x2054) == 0x3344);
    CHECK(guest.bar_get<std::uint32_t>(0, 0x2050) == 0x55667788);
    CHECK(guest.bar_get<std::uint64_t>(0, 0x2050) == 0x1122334455667788);
    REQUIRE(guest.state->reads.size() == 4);
    for (unsigned i = 0; i < 4; ++i)
        CHECK(guest.state->reads[i].size == 1U << i);
    guest.state->writes.clear();
    guest.bar_set<std::uint32_t>(0, 0x3008, 0xabcd);
    REQUIRE(guest.state->writes.size() == 1);
    CHECK(guest.state->writes[0] == fakes::FakeHostDevice::Access{0, 0x3008, 4, 0xabcd});

    guest.state->writes.clear();
    guest.state->reads.clear();
    for (std::uint64_t at = 0x2000; at < 0x2050; at += 4)
        guest.bar_set<std::uint32_t>(0, at, 0xffffffff);
    guest.bar_set<std::uint64_t>(0, 0x204c, 0); // crosses the table's end
    guest.bar_set<std::uint64_t>(0, 0x3000, 0);
    CHECK(guest.bar_get<std::uint32_t>(0, 0x2008) == 0xffffffff);
    CHECK(guest.bar_get<std::uint64_t>(0, 0x3000) == 0);
    CHECK(guest.state->writes.empty());
    CHECK(guest.state->reads.empty());
}

TEST_CASE("a guest that moves a BAR moves the mapping; sizing and nonsense addresses map nothing") {
    Assigned guest;
    guest.decode();
    const auto home = guest.bar(0);
    guest.set<std::uint32_t>(0x10, 0xffffffff);
    CHECK(guest.get<std::uint32_t>(0x10) == 0xffffc004);
    guest.set<std::uint32_t>(0x14, 0xffffffff);
    CHECK(guest.get<std::uint32_t>(0x14) == 0xffffffff);
    CHECK(guest.mappings.slots->empty());
    // RAM, the MSI window, the local APIC, configuration space, and addresses beyond all windows.
    for (const std::uint64_t where :
         {0x0ULL, 0x100000ULL, 0xfee00000ULL, 0xfec00000ULL, 0xe0000000ULL, 0x100000000ULL, 0x8000000000ULL}) {
        guest.set<std::uint32_t>(0x14, static_cast<std::uint32_t>(where >> 32));
        guest.set<std::uint32_t>(0x10, static_cast<std::uint32_t>(where));
        CHECK(guest.mappings.slots->empty());
    }
    guest.set<std::uint32_t>(0x14, 0);
    guest.set<std::uint32_t>(0x10, 0xd0000000);
    CHECK(guest.mappings.starts() == std::vector<std::uint64_t>{0xd0000000});
    guest.set<std::uint32_t>(0x14, static_cast<std::uint32_t>(home >> 32));
    guest.set<std::uint32_t>(0x10, static_cast<std::uint32_t>(home));
    CHECK(guest.mappings.starts() == std::vector<std::uint64_t>{home});
    guest.set<std::uint16_t>(4, 0);
    CHECK(guest.mappings.slots->empty());
}

TEST_CASE("a BAR over another one stays unmapped until that one goes") {
    Assigned guest;
    auto other_state = nvme();
    std::shared_ptr other = PciFunction::create(other_state.open(), {}, guest.context()).value();
    const auto where = guest.machine.root->add(other).value();
    guest.decode();
    const auto taken = guest.bar(0);
    guest.machine.set<std::uint32_t>(where, 0x14, static_cast<std::uint32_t>(taken >> 32));
    guest.machine.set<std::uint32_t>(where, 0x10, static_cast<std::uint32_t>(taken));
    guest.machine.decode(where, 6);
    REQUIRE(guest.mappings.slots->size() == 1);
    auto* first = guest.mappings.slots->front().host;
    guest.set<std::uint16_t>(4, 0);
    REQUIRE(guest.mappings.slots->size() == 1);
    CHECK(guest.mappings.slots->front().host != first);
    CHECK(guest.machine.root->remove(where).has_value());
    CHECK(guest.mappings.slots->empty());
}

TEST_CASE("BARs of every kind: 64-bit and prefetchable, I/O, below a page, sparse, and the ROM") {
    DeviceBuilder builder;
    builder.bar(0, 0x100).bar(1, 0x20, 1).bar(2, 0x10000, 0xc).bar(4, 0x8000);
    builder.state->regions[4].areas = {{0x0, 0x1000}, {0x3000, 0x2000}};
    builder.state->add_region(region_rom, 0x8000);
    Assigned guest{builder};
    const auto& config = guest.function->config();
    CHECK(config.bar(1)->kind == pci::BarKind::io);
    CHECK(config.bar(2)->kind == pci::BarKind::memory64);
    CHECK(config.bar(2)->prefetchable);
    CHECK(guest.bar(2) >= layout::pci_bars_64.start().raw());
    CHECK(!config.bar(3));
    CHECK(guest.state->get<std::uint16_t>(region_config, 4) == 3);
    guest.set<std::uint16_t>(4, 7);
    auto expected = std::vector<std::uint64_t>{guest.bar(2), guest.bar(4), guest.bar(4) + 0x3000};
    std::ranges::sort(expected);
    CHECK(guest.mappings.starts() == expected);

    guest.state->set<std::uint16_t>(0, 0xfe, 0x1234);
    CHECK(guest.bar_get<std::uint16_t>(0, 0xfe) == 0x1234);
    guest.bar_set<std::uint8_t>(0, 3, 0x99);
    CHECK(guest.state->get<std::uint8_t>(0, 3) == 0x99);
    guest.state->set<std::uint16_t>(1, 4, 0x5678);
    CHECK(tests::in<std::uint16_t>(guest.machine.ports, guest.bar(1) + 4) == 0x5678);
    tests::out<std::uint32_t>(guest.machine.ports, guest.bar(1) + 8, 0xdeadbeef);
    CHECK(guest.state->get<std::uint32_t>(1, 8) == 0xdeadbeef);
    guest.bar_set<std::uint32_t>(4, 0x1000, 7); // between the sparse areas
    CHECK(guest.state->get<std::uint32_t>(4, 0x1000) == 7);

    guest.state->set<std::uint16_t>(region_rom, 0, 0xaa55);
    CHECK(guest.bar_get<std::uint16_t>(pci::rom_bar, 0) == 0xffff); // not enabled
    guest.set<std::uint32_t>(0x30, guest.get<std::uint32_t>(0x30) | 1);
    CHECK(guest.bar_get<std::uint16_t>(pci::rom_bar, 0) == 0xaa55);
    guest.bar_set<std::uint16_t>(pci::rom_bar, 0, 0);
    CHECK(guest.bar_get<std::uint16_t>(pci::rom_bar, 0) == 0xaa55);
}

TEST_CASE("without its ROM, the guest sees none") {
    DeviceBuilder builder;
    builder.state->add_region(region_rom, 0x8000);
    Assigned guest{builder, {.rom = false}};
    guest.set<std::uint32_t>(0x30, 0xffffffff);
    CHECK(guest.get<std::uint32_t>(0x30) == 0);
}

TEST_CASE("a host that refuses to map, and a guest map that is full, leave every access trapped") {
    auto builder = nvme();
    builder.state->refuse_maps = true;
    Assigned guest{builder};
    guest.decode();
    CHECK(guest.mappings.slots->empty());
    guest.bar_set<std::uint32_t>(0, 0x14, 0x460000);
    CHECK(guest.state->get<std::uint32_t>(0, 0x14) == 0x460000);

    Assigned full;
    full.mappings.slots->push_back({Range<Gpa>::full(), nullptr, false});
    full.decode();
    CHECK(full.mappings.slots->size() == 1);
    full.bar_set<std::uint32_t>(0, 0x14, 1);
    CHECK(full.state->get<std::uint32_t>(0, 0x14) == 1);
}

TEST_CASE("a table that moves to a BAR of its own leaves its page to the device") {
    Assigned guest{nvme(65), {.relocate_msix = true}};
    CHECK(guest.get<std::uint32_t>(0x44) == 2);
    CHECK(guest.get<std::uint32_t>(0x48) == (65 * 16 | 2));
    guest.decode();
    REQUIRE(guest.mappings.slots->size() == 1);
    CHECK(guest.mappings.slots->front().range == *Range<Gpa>::sized(Gpa{guest.bar(0)}, 0x4000));
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(64, 2, 0);
    CHECK(guest.state->wired.at(Interrupt::msix).size() == 65);
    CHECK(guest.bar_get<std::uint32_t>(2, 64 * 16 + 8) == 0x80);
    CHECK(guest.bar_get<std::uint64_t>(2, 65 * 16) == 0);
    CHECK(guest.bar_get<std::uint32_t>(2, 0x800) == 0xffffffff);
    guest.state->writes.clear();
    guest.bar_set<std::uint32_t>(2, 0x800, 1);
    CHECK(guest.state->writes.empty());
    CHECK(guest.state->reads.empty());
}

TEST_CASE("relocation to a BAR that is taken is refused, and without the kernel's word it does not happen") {
    Assigned taken{nvme(), {.relocate_msix = true, .msix_bar = 1}};
    REQUIRE(taken.error);
    CHECK(taken.error->code == Errc::config_value);
    Assigned chosen{nvme(), {.relocate_msix = true, .msix_bar = 5}};
    CHECK(chosen.get<std::uint32_t>(0x44) == 5);
    auto builder = nvme();
    builder.state->regions[0].msix_mappable = false;
    Assigned stays{builder, {.relocate_msix = true}};
    CHECK(stays.get<std::uint32_t>(0x44) == 0x2000);
    auto crowded = nvme();
    for (unsigned index = 2; index < 6; ++index)
        crowded.bar(index, 0x1000);
    Assigned full{crowded, {.relocate_msix = true}};
    CHECK(full.get<std::uint32_t>(0x44) == 0x2000);
}

TEST_CASE("a table outside the device's BARs is an error of its own") {
    for (const std::uint32_t table : {0x3c00U, 0x1U, 0x7U, 0xfffffff0U}) {
        auto builder = nvme();
        builder.state->config<std::uint32_t>(0x44, table);
        Assigned guest{builder};
        REQUIRE(guest.error);
        CHECK(guest.error->code == Errc::unsupported);
    }
}

TEST_CASE("I/O BARs of more bytes than PCI allows are left out, and nothing else") {
    DeviceBuilder builder;
    builder.bar(0, 0x1000).bar(1, 0x1000, 1);
    Assigned guest{builder};
    CHECK(guest.function->config().bar(0));
    CHECK(!guest.function->config().bar(1));
}

TEST_CASE("a device that comes and goes ten times leaves no descriptor, no mapping and no slot behind") {
    Assigned guest;
    const auto descriptors = [] {
        return std::ranges::distance(std::filesystem::directory_iterator{"/proc/self/fd"},
                                     std::filesystem::directory_iterator{});
    };
    const auto mappings = [] {
        std::ifstream maps{"/proc/self/maps"};
        int count = 0;
        for (std::string line; std::getline(maps, line);)
            count += line.find("memfd:region") != line.npos ? 1 : 0;
        return count;
    };
    auto builder = nvme();
    const auto descriptors_before = descriptors();
    const auto mappings_before = mappings();
    for (int round = 0; round < 10; ++round) {
        std::shared_ptr function =
            PciFunction::create(builder.open(), {.relocate_msix = round % 2 == 1}, guest.context()).value();
        const auto where = guest.machine.root->add(function).value();
        guest.machine.decode(where, 6);
        guest.machine.set<std::uint16_t>(where, 0x42, 0x8000);
        CHECK(mappings() == mappings_before + 1);
        CHECK(guest.mappings.slots->size() == 1);
        CHECK(guest.machine.root->remove(where).has_value());
        function.reset();
        CHECK(!builder.state->alive);
        CHECK(builder.state->wired.empty());
        guest.irqs.lines.clear();
        guest.settle([turns = 0]() mutable { return ++turns > 3; }); // the loop releases what it watched
    }
    CHECK(descriptors() == descriptors_before);
    CHECK(mappings() == mappings_before);
    CHECK(guest.mappings.slots->empty());
}

} // namespace inox::vfio_bars_test
