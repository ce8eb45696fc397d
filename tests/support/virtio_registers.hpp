// SPDX-License-Identifier: Apache-2.0
// Both transports around an EchoDevice, used through their registers as Linux uses them.
#pragma once

#include <algorithm>

#include "devices/pci/root_bus.hpp"
#include "devices/virtio/mmio_transport.hpp"
#include "devices/virtio/pci_transport.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/fake_guest_events.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/virtio_device.hpp"
#include "tests/fakes/virtqueue_driver.hpp"

namespace inox::tests::registers {

using namespace devices::virtio;

inline constexpr std::uint8_t ready = status::acknowledge | status::driver;

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
    World() = default;
    /// With the memory of another, as after a restore.
    explicit World(const World& other) : memory{other.memory} {}
    World& operator=(const World&) = delete;

    std::shared_ptr<fakes::TestRam> memory{std::make_shared<fakes::TestRam>()};
    fakes::TestRam& ram{*memory};
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
    /// `used`: with a driver that has set up the bus and MSI-X.
    explicit Pci(World& w, bool used = true) : world{w} {
        bus = *devices::pci::RootBus::create(w.memory_bus, w.port_bus, w.events);
        device = *PciTransport::create(w.echo, {w.irqs, w.doorbells, w.ram.direct, w.loop});
        address = *bus->add(device);
        if (!used)
            return;
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

    /// After a restore.
    void find_bar() { base = device->config().bar_address(0); }

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

inline void start(Registers& registers, fakes::VirtqueueDriver& driver, std::uint64_t features = feature::version_1) {
    registers.set_status(0);
    registers.set_status(status::acknowledge);
    registers.set_status(ready);
    registers.accept(features);
    registers.set_status(ready | status::features_ok);
    REQUIRE(registers.get_status() == (ready | status::features_ok));
    registers.set_queue(0, driver.layout);
    registers.set_status(ready | status::features_ok | status::driver_ok);
}

} // namespace inox::tests::registers
