// SPDX-License-Identifier: Apache-2.0
// Both transports, used through their registers as Linux uses them.
#include <algorithm>

#include "tests/catch.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/virtio_registers.hpp"

namespace inox::virtio_transport_test {

using namespace tests::registers;

TEST_CASE("a driver brings the device up, and a request goes round") {
    on_both([](World& world, Registers& registers) {
        fakes::VirtqueueDriver driver{world.ram, 16};
        CHECK(registers.offered() ==
              (feature::version_1 | feature::indirect | feature::event_index | feature::ring_reset | 1));
        CHECK(registers.read_config() == 0x1122334455667788U);
        start(registers, driver);
        const auto pieces = driver.chain().readable("ping").writable(8).post();
        registers.notify(0);
        world.settle();
        const auto used = driver.used();
        REQUIRE(used);
        CHECK(used->length == 4);
        CHECK(world.ram.text(pieces[1].address, 4) == "ping");
        CHECK(registers.take_queue_interrupts() == 1);
        world.echo->change_config();
        CHECK(registers.take_config_interrupts() == 1);
    });
}

TEST_CASE("a device that serves at once has its answer ready when the driver's write returns") {
    World world;
    world.echo->at_once = true;
    Pci registers{world};
    CHECK(world.doorbells.bells->empty());
    fakes::VirtqueueDriver driver{world.ram, 16};
    start(registers, driver);
    driver.chain().readable("ping").writable(8).post();
    registers.notify(0);
    CHECK(driver.used());
    CHECK(registers.take_queue_interrupts() == 1);
    registers.notify(7);
    registers.set_status(0);
    driver.chain().readable("ping").writable(8).post();
    registers.notify(0);
    CHECK(world.echo->counters().kicks == 1);
}

TEST_CASE("a doorbell before DRIVER_OK, and one of a queue that does not exist, do nothing") {
    on_both([](World& world, Registers& registers) {
        fakes::VirtqueueDriver driver{world.ram, 16};
        registers.set_queue(0, driver.layout);
        driver.chain().readable("x").post();
        registers.notify(0);
        registers.notify(7);
        world.settle();
        CHECK_FALSE(driver.used());
        CHECK(world.echo->counters().kicks == 0);
    });
}

TEST_CASE("features the device does not have, or no VERSION_1, keep FEATURES_OK clear") {
    on_both([](World&, Registers& registers) {
        for (const std::uint64_t features : {feature::version_1 | feature::bit(5), std::uint64_t{1}}) {
            registers.set_status(0);
            registers.set_status(ready);
            registers.accept(features);
            registers.set_status(ready | status::features_ok);
            CHECK(registers.get_status() == ready);
        }
    });
}

TEST_CASE("a broken ring sets NEEDS_RESET once, and a reset brings the device back") {
    on_both([](World& world, Registers& registers) {
        fakes::VirtqueueDriver driver{world.ram, 16};
        start(registers, driver);
        driver.make_available(99);
        registers.notify(0);
        registers.notify(0);
        world.settle();
        CHECK((registers.get_status() & status::needs_reset) != 0);
        CHECK(registers.take_config_interrupts() == 1);
        CHECK(world.echo->counters().broken_rings == 1);
        registers.set_status(0);
        CHECK(registers.get_status() == 0);
        CHECK(world.echo->resets == 1);
        fakes::VirtqueueDriver again{world.ram, 16};
        start(registers, again);
        again.chain().readable("x").writable(1).post();
        registers.notify(0);
        world.settle();
        CHECK(again.used());
    });
}

TEST_CASE("queues outside memory stop the device, sizes that are not allowed are not enabled") {
    on_both([](World& world, Registers& registers) {
        fakes::VirtqueueDriver driver{world.ram, 16};
        driver.layout.size = 12;
        start(registers, driver);
        registers.notify(0);
        world.settle();
        CHECK(world.echo->counters().kicks == 0);
        driver.layout.size = 16;
        driver.layout.used = Iova{0xfffffff0};
        start(registers, driver);
        registers.notify(0);
        world.settle();
        CHECK((registers.get_status() & status::needs_reset) != 0);
    });
}

TEST_CASE("the configuration access window reaches the BAR without it being mapped") {
    World world;
    Pci pci{world};
    const auto window = pci.capability(9, 5);
    REQUIRE(window != 0);
    pci.config<std::uint8_t>(window + 4, 0);
    pci.config<std::uint32_t>(window + 8, 20);
    pci.config<std::uint32_t>(window + 12, 1);
    pci.config<std::uint8_t>(window + 16, status::acknowledge);
    CHECK(pci.get_status() == status::acknowledge);
    CHECK(pci.config<std::uint8_t>(window + 16) == status::acknowledge);
}

TEST_CASE("doorbells follow the BAR, and INTx works without MSI-X") {
    World world;
    Pci pci{world};
    CHECK(world.doorbells.bells->size() == 2);
    CHECK(world.doorbells.bells->front().address == Gpa{pci.base + 0x3000});
    pci.config(4, std::uint16_t{0});
    CHECK(world.doorbells.bells->empty());
    pci.config(4, std::uint16_t{6});
    pci.config(pci.capability(0x11) + 2, std::uint16_t{0});
    fakes::VirtqueueDriver driver{world.ram, 16};
    start(pci, driver);
    driver.chain().readable("x").writable(1).post();
    pci.notify(0);
    world.settle();
    CHECK(world.irqs.lines.front()->take() == 1);
    CHECK(world.read<std::uint8_t>(pci.base + 0x1000) == 1);
    CHECK(world.read<std::uint8_t>(pci.base + 0x1000) == 0);
}

TEST_CASE("doorbells that the host refuses cost few log lines, however often the guest maps the BAR") {
    World world;
    Pci pci{world};
    pci.config(4, std::uint16_t{0});
    world.doorbells.capacity = 0;
    const tests::LogCapture log;
    for (int i = 0; i < 500; ++i) {
        pci.config(4, std::uint16_t{6});
        pci.config(4, std::uint16_t{0});
    }
    const auto text = log.text();
    CHECK(text.find("no more doorbells") != std::string::npos);
    CHECK(std::ranges::count(text, '\n') < 100); // a throttle's five a second, on any machine
}

TEST_CASE("a vector out of range reads back as none") {
    World world;
    Pci pci{world};
    world.write<std::uint16_t>(pci.base + 16, 3);
    CHECK(world.read<std::uint16_t>(pci.base + 16) == 0xffff);
    world.write<std::uint16_t>(pci.base + 16, 2);
    CHECK(world.read<std::uint16_t>(pci.base + 16) == 2);
}

} // namespace inox::virtio_transport_test
