// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/hotplug.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/support/registers.hpp"

namespace inox::devices_pci_hotplug_test {

using namespace devices::pci;

namespace {

struct Bench {
    std::shared_ptr<fakes::FakeIrqLine::State> line{std::make_shared<fakes::FakeIrqLine::State>()};
    std::vector<unsigned> ejected{};
    HotplugRegisters registers{std::make_unique<fakes::FakeIrqLine>(line),
                               [this](unsigned slot) { ejected.push_back(slot); }};

    std::uint64_t read(std::uint64_t offset, unsigned size = 4) {
        std::array<std::byte, 8> bytes{};
        registers.read(offset, std::span{bytes}.first(size));
        return load_le<std::uint64_t>(bytes);
    }
    void write(std::uint64_t offset, std::uint64_t value, unsigned size = 4) {
        std::array<std::byte, 8> bytes{};
        store_le(std::span{bytes}, value);
        registers.write(offset, std::span{bytes}.first(size));
    }
};

constexpr auto added = HotplugRegisters::added_offset;
constexpr auto wanted = HotplugRegisters::wanted_offset;
constexpr auto eject = HotplugRegisters::eject_offset;

} // namespace

TEST_CASE("hotplug: a new device interrupts and shows in the register once") {
    Bench bench;
    bench.registers.announce(3);
    bench.registers.announce(31);
    CHECK(bench.line->take() == 2);
    CHECK(bench.read(added) == (1U << 3 | 1U << 31));
    CHECK(bench.read(added) == 0);
    CHECK(bench.read(wanted) == 0);
}

TEST_CASE("hotplug: a device asked back shows in its register once") {
    Bench bench;
    bench.registers.ask_back(5);
    CHECK(bench.line->take() == 1);
    CHECK(bench.read(added) == 0);
    CHECK(bench.read(wanted) == 1U << 5);
    CHECK(bench.read(wanted) == 0);
}

TEST_CASE("hotplug: an eject reaches the host for each slot, and nobody is asked twice") {
    Bench bench;
    bench.registers.ask_back(1);
    bench.write(eject, 1U << 1 | 1U << 30);
    CHECK(bench.ejected == std::vector<unsigned>{1, 30});
    CHECK(bench.read(wanted) == 0);
    CHECK(bench.read(eject) == 0);
}

TEST_CASE("hotplug: who comes and goes before the guest looked is told in the last state only") {
    Bench bench;
    bench.registers.announce(2);
    bench.registers.ask_back(2);
    CHECK(bench.read(added) == 0);
    CHECK(bench.read(wanted) == 1U << 2);
    bench.registers.ask_back(2);
    bench.registers.announce(2);
    CHECK(bench.read(wanted) == 0);
    CHECK(bench.read(added) == 1U << 2);
    bench.registers.ask_back(2);
    bench.registers.forget(2);
    CHECK(bench.read(wanted) == 0);
}

TEST_CASE("hotplug: a guest that did not look is reminded, one that did is left alone") {
    Bench bench;
    CHECK_FALSE(bench.registers.remind());
    bench.registers.announce(2);
    (void)bench.line->take();
    CHECK(bench.registers.remind());
    CHECK(bench.line->take() == 1);
    (void)bench.read(added);
    CHECK_FALSE(bench.registers.remind());
    CHECK(bench.line->take() == 0);
}

TEST_CASE("hotplug: other widths and offsets read as nothing and change nothing") {
    Bench bench;
    bench.registers.announce(4);
    for (const unsigned size : {1U, 2U, 8U})
        CHECK(bench.read(added, size) == 0);
    CHECK(bench.read(12) == 0);
    bench.write(eject, 0x10, 1);
    bench.write(eject, 0x10, 8);
    bench.write(added, 0xffffffff);
    bench.write(12, 0xffffffff);
    CHECK(bench.ejected.empty());
    CHECK(bench.read(added) == 1U << 4);
}

} // namespace inox::devices_pci_hotplug_test
