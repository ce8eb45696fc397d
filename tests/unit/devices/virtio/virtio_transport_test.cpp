// SPDX-License-Identifier: Apache-2.0
// Both transports, used through their registers as Linux uses them.
#include <algorithm>

#include "devices/pci/root_bus.hpp"
#include "devices/virtio/mmio_transport.hpp"
#include "devices/virtio/pci_transport.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/fake_guest_events.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/virtio_device.hpp"
#include "tests/fakes/virtqueue_driver.hpp"
#include "tests/support/log_capture.hpp"

namespace inox::virtio_transport_test {

using namespace devices::virtio;

namespace {

constexpr std::uint8_t ready = status::acknowledge | status::driver;

/// What a driver needs from a transport.
struct Registers {
    virtual ~Registers() = default;
    virtual void set_status(std::uint8_t value) = 0;
    virtual std::uint8_t get_status() = 0;
    virtual void accept(std::uint64_t features) = 0;
    virtual std::uint64_t offered() = 0;
    virtual void set_queue(unsigned index, const QueueLayout& layout) = 0;
    virtual void notify(unsigned queue) = 0;
    /// How many interrupts the queue had; acknowledges them.
    virtual unsigned take_queue_interrupts() = 0;
    virtual unsigned take_config_interrupts() = 0;
    virtual std::uint64_t read_config() = 0;
};

struct World {
    fakes::TestRam ram{};
    fakes::FakeIrqs irqs{};
    fakes::FakeDoorbells doorbells{};
    EventLoop loop{};
    MemoryBus memory_bus{};
    PortBus port_bus{};
    fakes::FakeGuestEvents events{};
    std::shared_ptr<fakes::EchoDevice> echo{std::make_shared<fakes::EchoDevice>()};

    /// Runs the loop until it has handled all notifications.
    void settle() {
        auto done = loop.after(std::chrono::milliseconds{2}, [this] { loop.stop(); });
        loop.run();
        loop.restart();
    }
    template <class T> T read(std::uint64_t address) {
        T value{};
        memory_bus.read(Gpa{address}, std::as_writable_bytes(std::span{&value, 1}));
        return value;
    }
    template <class T> void write(std::uint64_t address, T value) {
        memory_bus.write(Gpa{address}, std::as_bytes(std::span{&value, 1}));
    }
};

struct Mmio final : Registers {
    explicit Mmio(World& w) : world{w} {
        const auto range = *Range<Gpa>::sized(Gpa{base}, page_size);
        device = *MmioTransport::create(w.echo, {w.irqs, w.doorbells, w.ram.direct, w.loop}, range, 5);
        REQUIRE(w.memory_bus.add(range, device));
    }
    std::uint32_t get(std::uint64_t reg) { return world.read<std::uint32_t>(base + reg); }
    void put(std::uint64_t reg, std::uint32_t value) { world.write(base + reg, value); }
    void set_status(std::uint8_t value) override { put(0x70, value); }
    std::uint8_t get_status() override { return static_cast<std::uint8_t>(get(0x70)); }
    void accept(std::uint64_t features) override {
        for (std::uint32_t half = 0; half < 2; ++half) {
            put(0x24, half);
            put(0x20, static_cast<std::uint32_t>(features >> (32 * half)));
        }
    }
    std::uint64_t offered() override {
        put(0x14, 1);
        const std::uint64_t high = get(0x10);
        put(0x14, 0);
        return high << 32 | get(0x10);
    }
    void set_queue(unsigned index, const QueueLayout& layout) override {
        put(0x30, index);
        put(0x38, layout.size);
        put(0x80, static_cast<std::uint32_t>(layout.descriptors.raw()));
        put(0x90, static_cast<std::uint32_t>(layout.available.raw()));
        put(0xa0, static_cast<std::uint32_t>(layout.used.raw()));
        put(0x44, 1);
    }
    void notify(unsigned queue) override { put(0x50, queue); }
    unsigned take(std::uint32_t bit) {
        if ((get(0x60) & bit) == 0)
            return 0;
        put(0x64, bit);
        return world.irqs.lines.back()->take();
    }
    unsigned take_queue_interrupts() override { return take(1); }
    unsigned take_config_interrupts() override { return take(2); }
    std::uint64_t read_config() override { return world.read<std::uint64_t>(base + 0x100); }

    static constexpr std::uint64_t base = 0xc0001000;
    World& world;
    std::shared_ptr<MmioTransport> device;
};

struct Pci final : Registers {
    explicit Pci(World& w) : world{w} {
        bus = *devices::pci::RootBus::create(w.memory_bus, w.port_bus, w.events);
        device = *PciTransport::create(w.echo, {w.irqs, w.doorbells, w.ram.direct, w.loop});
        address = *bus->add(device);
        config(4, std::uint16_t{6}); // memory decode, bus master
        base = device->config().bar_address(0);
        // MSI-X: table entries 0 for configuration, 1 for the queues.
        for (std::uint64_t entry = 0; entry < 2; ++entry) {
            w.write<std::uint32_t>(base + 0x8000 + 16 * entry, 0xfee00000);
            w.write<std::uint32_t>(base + 0x8000 + 16 * entry + 8, static_cast<std::uint32_t>(entry + 0x40));
            w.write<std::uint32_t>(base + 0x8000 + 16 * entry + 12, 0);
        }
        config(capability(0x11) + 2, std::uint16_t{0x8000});
    }
    template <class T> void config(unsigned offset, T value) {
        bus->config_write(address.index(), offset, std::as_bytes(std::span{&value, 1}));
    }
    template <class T> T config(unsigned offset) {
        T value{};
        bus->config_read(address.index(), offset, std::as_writable_bytes(std::span{&value, 1}));
        return value;
    }
    unsigned capability(std::uint8_t id, std::uint8_t kind = 0) {
        unsigned at = config<std::uint8_t>(0x34);
        while (at != 0 && (config<std::uint8_t>(at) != id || (kind != 0 && config<std::uint8_t>(at + 3) != kind)))
            at = config<std::uint8_t>(at + 1);
        return at;
    }
    void set_status(std::uint8_t value) override { world.write(base + 20, value); }
    std::uint8_t get_status() override { return world.read<std::uint8_t>(base + 20); }
    void accept(std::uint64_t features) override {
        for (std::uint32_t half = 0; half < 2; ++half) {
            world.write(base + 8, half);
            world.write(base + 12, static_cast<std::uint32_t>(features >> (32 * half)));
        }
    }
    std::uint64_t offered() override {
        world.write<std::uint32_t>(base, 1);
        const std::uint64_t high = world.read<std::uint32_t>(base + 4);
        world.write<std::uint32_t>(base, 0);
        return high << 32 | world.read<std::uint32_t>(base + 4);
    }
    void set_queue(unsigned index, const QueueLayout& layout) override {
        world.write<std::uint16_t>(base + 16, 0); // a reset clears the vectors
        world.write(base + 22, static_cast<std::uint16_t>(index));
        world.write(base + 24, layout.size);
        world.write<std::uint16_t>(base + 26, 1);
        world.write(base + 32, static_cast<std::uint32_t>(layout.descriptors.raw()));
        world.write<std::uint32_t>(base + 36, 0);
        world.write(base + 40, layout.available.raw());
        world.write(base + 48, layout.used.raw());
        world.write<std::uint16_t>(base + 28, 1);
    }
    void notify(unsigned queue) override { world.write(base + 0x3000 + 4 * queue, static_cast<std::uint16_t>(queue)); }
    unsigned take(std::uint32_t data) {
        unsigned count = 0;
        for (auto& vector : world.irqs.vectors)
            count += static_cast<unsigned>(
                std::erase_if(vector->delivered, [&](const auto& message) { return message.data == data; }));
        return count;
    }
    unsigned take_queue_interrupts() override { return take(0x41); }
    unsigned take_config_interrupts() override { return take(0x40); }
    std::uint64_t read_config() override { return world.read<std::uint64_t>(base + 0x2000); }

    World& world;
    std::unique_ptr<devices::pci::RootBus> bus;
    std::shared_ptr<PciTransport> device;
    devices::pci::Address address;
    std::uint64_t base{};
};

template <class F> void on_both(F&& test) {
    SECTION("virtio-mmio") {
        World world;
        Mmio registers{world};
        test(world, static_cast<Registers&>(registers));
    }
    SECTION("virtio-pci") {
        World world;
        Pci registers{world};
        test(world, static_cast<Registers&>(registers));
    }
}

void start(Registers& registers, fakes::VirtqueueDriver& driver, std::uint64_t features = feature::version_1) {
    registers.set_status(0);
    registers.set_status(status::acknowledge);
    registers.set_status(ready);
    registers.accept(features);
    registers.set_status(ready | status::features_ok);
    REQUIRE(registers.get_status() == (ready | status::features_ok));
    registers.set_queue(0, driver.layout);
    registers.set_status(ready | status::features_ok | status::driver_ok);
}

} // namespace

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
