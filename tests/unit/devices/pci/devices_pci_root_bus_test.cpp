// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/root_bus.hpp"

#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/pci_function.hpp"
#include "tests/support/registers.hpp"

namespace inox::devices_pci_root_bus_test {

using namespace devices::pci;
using fakes::PciFunction;
using fakes::PciMachine;
using tests::in;
using tests::out;

namespace {

constexpr std::uint64_t ram = 0x100000;

/// A function with one BAR of each kind: 0 memory32, 1 I/O, 2 memory64.
std::shared_ptr<PciFunction> three_bars() {
    auto function = std::make_shared<PciFunction>();
    REQUIRE(function->config().add_bar(0, {.kind = BarKind::memory32, .size = 4 * KiB}));
    REQUIRE(function->config().add_bar(1, {.kind = BarKind::io, .size = 64}));
    REQUIRE(function->config().add_bar(2, {.kind = BarKind::memory64, .size = 64 * KiB}));
    return function;
}

} // namespace

TEST_CASE("a scan finds the host bridge and nothing else, by port and by ECAM") {
    PciMachine machine;
    CHECK(machine.get<std::uint32_t>({0, 0}, 0) == 0x00081b36);
    CHECK(machine.get_by_port<std::uint32_t>({0, 0}, 8) == 0x06000000);
    for (std::uint8_t slot = 0; slot < 32; ++slot)
        for (std::uint8_t function = slot == 0; function < 8; ++function) {
            CHECK(machine.get_by_port<std::uint32_t>({slot, function}, 0) == 0xffffffff);
            CHECK(machine.get<std::uint16_t>({slot, function}, 0) == 0xffff);
            machine.set<std::uint32_t>({slot, function}, 4, 7);
        }
    const auto bus_1 = layout::ecam.start().raw() + MiB;
    CHECK(in<std::uint32_t>(machine.memory, bus_1) == 0xffffffff);
    out<std::uint32_t>(machine.memory, bus_1 + 4, 7);
    out<std::uint32_t>(machine.ports, 0xcf8, 0x80010000);
    CHECK(in<std::uint32_t>(machine.ports, 0xcfc) == 0xffffffff);
}

TEST_CASE("mechanism 1 takes bytes and words at any offset and obeys its enable bit") {
    PciMachine machine;
    const devices::pci::Address host{0, 0};
    CHECK(machine.get_by_port<std::uint8_t>(host, 0x0b) == 0x06);
    CHECK(machine.get_by_port<std::uint16_t>(host, 0x0a) == 0x0600);
    machine.set_by_port<std::uint8_t>(host, reg::interrupt_line, 0x2a);
    CHECK(machine.get<std::uint8_t>(host, reg::interrupt_line) == 0x2a);
    CHECK(in<std::uint32_t>(machine.ports, 0xcf8) == 0x8000003c);
    CHECK(in<std::uint16_t>(machine.ports, 0xcf8) == 0xffff); // only a full-width access answers
    out<std::uint16_t>(machine.ports, 0xcf8, 0);
    CHECK(in<std::uint32_t>(machine.ports, 0xcf8) == 0x8000003c);
    out<std::uint32_t>(machine.ports, 0xcf8, 0x00000000);
    CHECK(in<std::uint32_t>(machine.ports, 0xcfc) == 0xffffffff);
    CHECK(in<std::uint32_t>(machine.ports, 0xcfa) == 0xffffffff); // half address, half data
}

TEST_CASE("the reset control register beside mechanism 1 resets") {
    PciMachine machine;
    out<std::uint8_t>(machine.ports, 0xcf9, 0x02);
    CHECK(machine.events.resets == 0);
    out<std::uint8_t>(machine.ports, 0xcf9, 0x06);
    CHECK(machine.events.resets == 1);
}

TEST_CASE("BARs are placed in their windows, each on pages of its own, without overlap") {
    PciMachine machine;
    std::vector<std::shared_ptr<PciFunction>> functions;
    RangeMap<Gpa, int> taken;
    for (int i = 0; i < 10; ++i) {
        functions.push_back(three_bars());
        auto& config = functions.back()->config();
        REQUIRE(config.add_bar(4, {.kind = BarKind::memory32, .size = 256}));
        REQUIRE(machine.root->add(functions.back()));
        const auto range = [&](unsigned bar, std::uint64_t size) {
            return *Range<Gpa>::sized(Gpa{config.bar_address(bar)}, size);
        };
        CHECK(layout::pci_bars_32.contains(range(0, 4 * KiB)));
        CHECK(layout::pci_bars_64.contains(range(2, 64 * KiB)));
        CHECK(taken.insert(range(0, 4 * KiB), 0));
        CHECK(taken.insert(range(2, 64 * KiB), 0));
        CHECK(taken.insert(range(4, 4 * KiB), 0));
        CHECK(is_aligned(config.bar_address(4), 4 * KiB));
        CHECK(layout::pci_io.contains(IoPort{config.bar_address(1)}));
    }
}

TEST_CASE("BARs of 256 GiB and more together are placed, and without a 64-bit window below 4 GiB") {
    const auto add = [](PciMachine& machine, std::uint64_t size) {
        const auto function = std::make_shared<PciFunction>();
        REQUIRE(function->config().add_bar(0, {.kind = BarKind::memory64, .size = size, .prefetchable = true}));
        return machine.root->add(function) ? function->config().bar_address(0) : 0;
    };
    PciMachine usual;
    CHECK(add(usual, 128 * GiB) == 256 * GiB);
    CHECK(add(usual, 128 * GiB) == 384 * GiB);
    CHECK(add(usual, 128 * GiB) == 0);
    PciMachine large{.windows = {.memory64 = fixed_range<Gpa>(256 * GiB, 64 * 1024 * GiB - 1)}};
    CHECK(add(large, 16 * KiB) == 256 * GiB);
    CHECK(add(large, 512 * GiB) == 512 * GiB);
    for (std::uint64_t i = 0; i < 8; ++i)
        CHECK(add(large, 512 * GiB) == (i + 2) * 512 * GiB);
    PciMachine small{.windows = {.memory64 = std::nullopt}};
    CHECK(add(small, 16 * MiB) == 0xc2000000);
    CHECK(add(small, 1 * GiB) == 0);
}

TEST_CASE("BARs answer only while the guest decodes them") {
    PciMachine machine;
    auto function = three_bars();
    const devices::pci::Address at = machine.root->add(function).value();
    const auto bar0 = function->config().bar_address(0);
    const auto bar1 = function->config().bar_address(1);
    const auto bar2 = function->config().bar_address(2);
    CHECK(in<std::uint32_t>(machine.memory, bar0) == 0xffffffff);

    machine.decode(at, command_bit::memory);
    CHECK(in<std::uint32_t>(machine.memory, bar0 + 0x10) == 0x01000010);
    CHECK(in<std::uint64_t>(machine.memory, bar2 + 0xfff8) == 0x0300fff8);
    CHECK(in<std::uint64_t>(machine.memory, bar2 + 0xfffc) == ~std::uint64_t{0}); // crosses the end
    CHECK(in<std::uint8_t>(machine.ports, bar1) == 0xff);
    CHECK(function->mapped == std::map<unsigned, std::uint64_t>{{0, bar0}, {2, bar2}});

    machine.decode(at, command_bit::io);
    CHECK(in<std::uint32_t>(machine.ports, bar1 + 4) == 0x02000004);
    CHECK(in<std::uint32_t>(machine.memory, bar0) == 0xffffffff);
    CHECK(function->mapped.empty());

    out<std::uint16_t>(machine.ports, bar1 + 2, 0xbeef);
    CHECK(function->writes == std::vector<PciFunction::Write>{{1, 2, 0xbeef}});
}

TEST_CASE("the guest moves a BAR, and accesses and callbacks follow") {
    PciMachine machine;
    auto function = three_bars();
    const devices::pci::Address at = machine.root->add(function).value();
    machine.decode(at, command_bit::memory);
    const auto before = function->config().bar_address(0);
    machine.set<std::uint32_t>(at, 0x10, 0xd0000000);
    CHECK(in<std::uint32_t>(machine.memory, before) == 0xffffffff);
    CHECK(in<std::uint32_t>(machine.memory, 0xd0000004) == 0x01000004);
    CHECK(function->mapped[0] == 0xd0000000);
}

TEST_CASE("sizing a BAR with decode on moves it to where nothing else is, and back") {
    PciMachine machine;
    auto function = three_bars();
    const devices::pci::Address at = machine.root->add(function).value();
    machine.decode(at, command_bit::memory | command_bit::io);
    const auto before = function->mapped;
    const auto size = [&](unsigned offset) {
        const auto saved = machine.get<std::uint32_t>(at, offset);
        machine.set<std::uint32_t>(at, offset, 0xffffffff);
        const auto meanwhile = function->mapped;
        machine.set<std::uint32_t>(at, offset, saved);
        CHECK(function->mapped == before);
        return meanwhile;
    };
    CHECK_FALSE(size(0x10).contains(0));
    CHECK(size(0x18)[2] == 0x40ffff0000); // its low half only: it is still inside the window
    CHECK_FALSE(size(0x1c).contains(2));
}

TEST_CASE("a BAR over RAM, the interrupt window, ECAM or nothing is not mapped") {
    PciMachine machine;
    auto function = three_bars();
    const devices::pci::Address at = machine.root->add(function).value();
    machine.decode(at, command_bit::memory | command_bit::io);
    for (const std::uint32_t address : {std::uint32_t{0}, std::uint32_t{ram}, 0xbffff000U, 0xc0000000U, 0xe0000000U,
                                        0xfec00000U, 0xfee00000U, 0xfffff000U}) {
        machine.set<std::uint32_t>(at, 0x10, address);
        CHECK_FALSE(function->mapped.contains(0));
    }
    machine.set<std::uint32_t>(at, 0x10, 0xdffff000); // the last page of the window
    CHECK(function->mapped.contains(0));
    for (const std::uint32_t high : {0x00000001U, 0x0000003fU, 0x00000080U, 0xffffffffU}) {
        machine.set<std::uint32_t>(at, 0x1c, high);
        CHECK_FALSE(function->mapped.contains(2));
    }
    machine.set<std::uint32_t>(at, 0x14, 0x3c1); // over the serial port
    CHECK(in<std::uint8_t>(machine.ports, 0x3f8) == 0xff);
    machine.set<std::uint32_t>(at, 0x14, 0xcc1); // over the configuration ports
    CHECK(machine.get_by_port<std::uint32_t>({0, 0}, 0) == 0x00081b36);
}

TEST_CASE("of two BARs at one address the first answers, and the second when the first has gone") {
    PciMachine machine;
    auto first = three_bars();
    auto second = three_bars();
    const devices::pci::Address a = machine.root->add(first).value();
    const devices::pci::Address b = machine.root->add(second).value();
    machine.decode(a, command_bit::memory);
    machine.decode(b, command_bit::memory);
    const auto where = first->config().bar_address(0);
    machine.set<std::uint32_t>(b, 0x10, static_cast<std::uint32_t>(where));
    CHECK(first->mapped[0] == where);
    CHECK_FALSE(second->mapped.contains(0));
    out<std::uint32_t>(machine.memory, where, 1);
    CHECK(first->writes.size() == 1);
    CHECK(second->writes.empty());
    machine.decode(a, 0);
    CHECK(second->mapped[0] == where);
    out<std::uint32_t>(machine.memory, where, 2);
    CHECK(second->writes.size() == 1);
    machine.decode(a, command_bit::memory);
    CHECK_FALSE(first->mapped.contains(0));
    REQUIRE(machine.root->remove(b));
    CHECK(first->mapped[0] == where);
}

TEST_CASE("a removed function vanishes with its BARs, and its space is used again") {
    PciMachine machine;
    std::uint64_t where = 0;
    for (int round = 0; round < 100; ++round) {
        auto function = three_bars();
        const devices::pci::Address at = machine.root->add(function).value();
        CHECK(at == devices::pci::Address{1, 0});
        machine.decode(at, command_bit::memory | command_bit::io);
        if (round == 0)
            where = function->config().bar_address(2);
        CHECK(function->mapped[2] == where);
        REQUIRE(machine.root->remove(at));
        CHECK(function->mapped.empty());
        CHECK(function->removed == 1);
        CHECK(function.use_count() == 1);
        CHECK(machine.get<std::uint32_t>(at, 0) == 0xffffffff);
        CHECK(in<std::uint32_t>(machine.memory, where) == 0xffffffff);
    }
    CHECK(machine.root->remove({1, 0}).error().code == Errc::not_found);
    CHECK_FALSE(machine.root->remove({0, 0})); // the host bridge stays
    CHECK_FALSE(machine.root->remove({77, 9}));
}

TEST_CASE("a hot-plugged BAR keeps off addresses the guest has chosen for others") {
    PciMachine machine;
    auto old = three_bars();
    const devices::pci::Address at = machine.root->add(old).value();
    const auto first_fit = old->config().bar_address(2);
    machine.set<std::uint32_t>(at, 0x18, static_cast<std::uint32_t>(first_fit + 0x20000)); // decoding is still off
    auto fresh = std::make_shared<PciFunction>();
    REQUIRE(fresh->config().add_bar(0, {.kind = BarKind::memory64, .size = 256 * KiB}));
    REQUIRE(machine.root->add(fresh));
    CHECK(fresh->config().bar_address(0) == first_fit + 0x40000);
}

TEST_CASE("a BAR the guest has put outside the windows takes no room from a hot-plugged one") {
    PciMachine machine;
    auto old = std::make_shared<PciFunction>();
    REQUIRE(old->config().add_bar(0, {.kind = BarKind::memory64, .size = 8 * GiB}));
    const devices::pci::Address at = machine.root->add(old).value();
    machine.set<std::uint64_t>(at, 0x10, 0);
    CHECK(old->config().bar_address(0) == 0);
    CHECK(machine.root->add(three_bars()));
}

TEST_CASE("what does not fit or is taken is refused by name and changes nothing") {
    PciMachine machine;
    auto large = std::make_shared<PciFunction>("large");
    REQUIRE(large->config().add_bar(0, {.kind = BarKind::memory64, .size = 512 * GiB}));
    const auto full = machine.root->add(large);
    REQUIRE_FALSE(full);
    CHECK(full.error().code == Errc::no_resource);
    CHECK(full.error().what.find("BAR 0 of large") != std::string::npos);

    auto stubborn = three_bars();
    stubborn->refuse_add = true;
    CHECK_FALSE(machine.root->add(stubborn));
    CHECK(machine.get<std::uint32_t>({1, 0}, 0) == 0xffffffff);

    REQUIRE(machine.root->add(three_bars(), devices::pci::Address{5, 0}));
    CHECK(machine.root->add(three_bars(), devices::pci::Address{5, 0}).error().code == Errc::already_exists);
    CHECK(machine.root->add(three_bars(), devices::pci::Address{32, 0}).error().code == Errc::not_found);
    for (int i = 0; i < 30; ++i)
        REQUIRE(machine.root->add(std::make_shared<PciFunction>()));
    CHECK(machine.root->add(std::make_shared<PciFunction>()).error().code == Errc::no_resource);
}

TEST_CASE("the multi-function bit follows what is in the slot") {
    PciMachine machine;
    REQUIRE(machine.root->add(three_bars(), devices::pci::Address{3, 0}));
    CHECK(machine.get<std::uint8_t>({3, 0}, reg::header_type) == 0);
    REQUIRE(machine.root->add(three_bars(), devices::pci::Address{3, 5}));
    CHECK(machine.get<std::uint8_t>({3, 0}, reg::header_type) == 0x80);
    CHECK(machine.get<std::uint8_t>({3, 5}, reg::header_type) == 0x80);
    REQUIRE(machine.root->remove({3, 5}));
    CHECK(machine.get<std::uint8_t>({3, 0}, reg::header_type) == 0);
}

TEST_CASE("pins are swizzled over four interrupts and the line register says which") {
    CHECK(intx_gsi(0, 1) == 16);
    CHECK(intx_gsi(1, 1) == 17);
    CHECK(intx_gsi(3, 2) == 16);
    CHECK(intx_gsi(31, 4) == 18);
    PciMachine machine;
    auto function = three_bars();
    function->config().set_interrupt_pin(2);
    const devices::pci::Address at = machine.root->add(function, devices::pci::Address{6, 0}).value();
    CHECK(machine.get<std::uint16_t>(at, reg::interrupt_line) == 0x0200 + 19);
    CHECK(function->address == at);
}

TEST_CASE("extended configuration space is reached by ECAM and by the extended port bits") {
    PciMachine machine;
    auto function = three_bars();
    const std::array<std::byte, 4> body{std::byte{2}};
    REQUIRE(function->config().add_extended_capability(0x1b, 1, body));
    const devices::pci::Address at = machine.root->add(function).value();
    CHECK(machine.get<std::uint32_t>(at, 0x100) == 0x0001001b);
    out<std::uint32_t>(machine.ports, 0xcf8, 0x81000000U | at.index() << 8);
    CHECK(in<std::uint32_t>(machine.ports, 0xcfc) == 0x0001001b);
    CHECK(machine.get<std::uint32_t>({0, 0}, 0x100) == 0xffffffff); // the host bridge has no capability there
}

TEST_CASE("an ECAM access across two functions reaches neither") {
    PciMachine machine;
    CHECK(in<std::uint64_t>(machine.memory, PciMachine::ecam({0, 0}, 0xffc)) == ~std::uint64_t{0});
    CHECK(in<std::uint16_t>(machine.memory, PciMachine::ecam({0, 1}, 0) - 1) == 0xffff);
    CHECK(in<std::uint32_t>(machine.memory, layout::ecam.last().raw() - 3) == 0xffffffff);
}

TEST_CASE("destroying the bus unmaps and removes every function") {
    PciMachine machine;
    auto function = three_bars();
    machine.decode(machine.root->add(function).value(), command_bit::memory);
    machine.root.reset();
    CHECK(function->mapped.empty());
    CHECK(function->removed == 1);
    CHECK(function.use_count() == 1);
    CHECK(in<std::uint32_t>(machine.memory, layout::ecam.start().raw()) == 0xffffffff);
    CHECK(in<std::uint32_t>(machine.ports, 0xcf8) == 0xffffffff);
}

TEST_CASE("several processors may configure, move and use BARs while devices come and go") {
    PciMachine machine;
    auto function = three_bars();
    const devices::pci::Address at = machine.root->add(function).value();
    {
        std::vector<std::jthread> processors;
        for (unsigned cpu = 0; cpu < 3; ++cpu)
            processors.emplace_back([&, cpu] {
                for (unsigned i = 0; i < 2000; ++i) {
                    machine.decode(at, static_cast<std::uint16_t>(i % 4));
                    machine.set<std::uint32_t>(at, 0x10, 0xd0000000 + ((i + cpu) % 4) * 0x1000);
                    in<std::uint32_t>(machine.memory, 0xd0000000 + (i % 4) * 4 * KiB);
                    machine.get<std::uint32_t>({2, 0}, 0);
                }
            });
        for (int i = 0; i < 200; ++i)
            REQUIRE(machine.root->remove(machine.root->add(three_bars(), devices::pci::Address{2, 0}).value()));
    }
    machine.decode(at, command_bit::memory);
    CHECK(function->mapped[0] == function->config().bar_address(0));
}

TEST_CASE("a torn-out function leaves no configuration space, and BARs that read as zero until it is removed") {
    PciMachine machine;
    const auto function = three_bars();
    const devices::pci::Address at = *machine.root->add(function, devices::pci::Address{4, 0});
    machine.decode(at, command_bit::memory | command_bit::io);
    const auto memory_bar = function->config().bar_address(0);
    const auto port_bar = function->config().bar_address(1);
    CHECK(in<std::uint32_t>(machine.memory, memory_bar) != 0);
    REQUIRE(machine.root->tear_out(at));
    CHECK(function->removed == 1);
    CHECK(function->mapped.empty());
    CHECK(function.use_count() == 1);
    CHECK(machine.get<std::uint32_t>(at, 0) == 0xffffffff);
    machine.set<std::uint32_t>(at, reg::bar0, 0xffffffff);
    CHECK(machine.get<std::uint32_t>(at, reg::bar0) == 0xffffffff);
    CHECK(in<std::uint32_t>(machine.memory, memory_bar) == 0);
    CHECK(in<std::uint32_t>(machine.ports, port_bar) == 0);
    REQUIRE(machine.root->remove(at));
    CHECK(in<std::uint32_t>(machine.memory, memory_bar) == 0xffffffff);
    CHECK_FALSE(machine.root->tear_out(at));
    CHECK_FALSE(machine.root->tear_out({0, 0}));
}

} // namespace inox::devices_pci_root_bus_test
