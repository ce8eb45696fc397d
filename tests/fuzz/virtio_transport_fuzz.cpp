// SPDX-License-Identifier: Apache-2.0
// A driver at the registers of both virtio transports, with any order, width and value, and rings anywhere. Whatever
// the input, registers answer, and after a reset the device is idle.
//
//   input   what the devices are, then operations: kind, how, 2-byte offset, 8-byte value; two operations in eight set
//           up a queue as a driver does
#include <functional>
#include <optional>

#include "devices/pci/root_bus.hpp"
#include "devices/virtio/mmio_transport.hpp"
#include "devices/virtio/pci_transport.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/fakes/pci_function.hpp"
#include "tests/fakes/virtio_device.hpp"
#include "tests/fakes/virtqueue_driver.hpp"
#include "tests/fuzz/bus_access.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/state.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using namespace devices::virtio;
using fuzz::Input;
using fuzz::require;

constexpr std::uint64_t mmio_base = 0xc0001000;

struct World {
    fakes::TestRam ram{4 * MiB};
    std::optional<fakes::IommuWorld> iommu{}; ///< the device on PCI is behind it
    fakes::FakeIrqs irqs{};
    fakes::FakeDoorbells doorbells{};
    EventLoop loop{};
    fakes::PciMachine machine{};
    std::array<std::shared_ptr<fakes::EchoDevice>, 2> devices{std::make_shared<fakes::EchoDevice>(),
                                                              std::make_shared<fakes::EchoDevice>()};
    std::shared_ptr<MmioTransport> mmio{};
    std::shared_ptr<PciTransport> pci{};
    devices::pci::Address at{};

    /// `how`: bit 0: a write of the guest's serves the ring, without the loop; bit 1: no doorbell can be had; bit 2:
    /// behind an IOMMU; bits 3 to 5: the type.
    explicit World(std::uint8_t how) {
        constexpr std::array types{Type::entropy, Type::net,     Type::block, Type::console,
                                   Type::fs,      Type::balloon, Type::iommu, Type::vsock};
        if ((how & 4) != 0)
            iommu.emplace();
        const TransportContext context{irqs, doorbells, ram.direct, loop, iommu ? &iommu->domains : nullptr};
        const auto page = *Range<Gpa>::sized(Gpa{mmio_base}, page_size);
        mmio = *MmioTransport::create(devices[0], context, page, 5);
        require(machine.memory.add(page, mmio).has_value());
        if ((how & 2) != 0)
            doorbells.capacity = doorbells.bells->size();
        devices[1]->at_once = (how & 1) != 0;
        devices[1]->kind = types[how / 8 % types.size()];
        pci = *PciTransport::create(devices[1], context);
        at = *machine.root->add(pci);
        machine.set<std::uint16_t>(at, 4, 6);
    }
    [[nodiscard]] std::uint64_t bar() const { return pci->config().bar_address(0); }
    void write(std::uint64_t address, std::size_t width, std::uint64_t value) {
        fuzz::access(machine.memory, address, static_cast<std::uint8_t>(0x80 | (width - 1)), value);
    }
    void reset_mmio() const { mmio->write(0x70, std::array<std::byte, 4>{}); }
    /// Wherever the guest has moved the BAR to.
    void reset_pci() const { pci->bar_write(0, 20, std::array<std::byte, 1>{}); }
    /// The steps of a driver up to DRIVER_OK, with a queue at `ring`.
    void drive_mmio(std::uint64_t ring, std::uint32_t size) {
        for (const auto& [reg, value] :
             std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{{0x70, 0},
                                                                            {0x70, 3},
                                                                            {0x24, 1},
                                                                            {0x20, 1},
                                                                            {0x70, 11},
                                                                            {0x30, ring & 1},
                                                                            {0x38, size},
                                                                            {0x80, ring},
                                                                            {0x84, 0},
                                                                            {0x90, ring + 0x400},
                                                                            {0xa0, ring + 0x800},
                                                                            {0x44, 1},
                                                                            {0x70, 15}})
            write(mmio_base + reg, 4, value);
    }
    void drive_pci(std::uint64_t ring, std::uint32_t size) {
        struct Step {
            std::uint64_t offset;
            std::size_t width;
            std::uint64_t value;
        };
        for (const auto& [offset, width, value] : std::initializer_list<Step>{{20, 1, 0},
                                                                              {20, 1, 3},
                                                                              {8, 4, 1},
                                                                              {12, 4, 1},
                                                                              {20, 1, 11},
                                                                              {22, 2, ring & 1},
                                                                              {24, 2, size},
                                                                              {32, 8, ring},
                                                                              {40, 8, ring + 0x400},
                                                                              {48, 8, ring + 0x800},
                                                                              {28, 2, 1},
                                                                              {20, 1, 15}})
            write(bar() + offset, width, value);
    }
};

/// What was saved of a transport, damaged perhaps, goes into one whose device is idle.
template <class Transport> void rest(Transport& transport, Input& input, const std::function<void()>& reset) {
    require(transport.drain());
    auto saved = tests::save(transport);
    reset();
    fuzz::damage(saved, input);
    if (!tests::restore(transport, std::move(saved)))
        reset();
    transport.resume();
}

void fill(World& world, std::uint64_t at, std::span<const std::byte> bytes) {
    (void)world.ram.memory.write(Gpa{at}, bytes);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    Input input{std::as_bytes(std::span{data, size})};
    World world{input.take<std::uint8_t>()};
    require(!world.mmio->name().empty() && !world.mmio->unsaveable() && world.mmio->gsi() == 5 &&
            world.mmio->registers().start() == Gpa{mmio_base});
    require(!world.pci->name().empty() && !world.pci->unsaveable() && world.pci->msix().layout().vectors == 3);
    for (int step = 0; step < 60 && !input.empty(); ++step) {
        const auto kind = input.take<std::uint8_t>();
        const auto how = input.take<std::uint8_t>();
        const auto offset = input.take<std::uint16_t>();
        switch (kind % 8) {
        case 0:
            fuzz::access(world.machine.memory, mmio_base + offset % 0x200U, how, input.take<std::uint64_t>());
            break;
        case 1:
            fuzz::access(world.machine.memory, world.bar() + offset, how, input.take<std::uint64_t>());
            break;
        case 2:
            fuzz::access(world.machine.memory, world.bar() + offset % 64U, how, input.take<std::uint64_t>());
            break;
        case 3: // the window of configuration space onto the BAR among the rest
            fuzz::access(world.machine.memory, fakes::PciMachine::ecam(world.at, offset % 0x1000U), how,
                         input.take<std::uint64_t>());
            break;
        case 4:
            world.drive_mmio(offset % 64U * 0x1000U + (how & 1), how / 2);
            break;
        case 5:
            world.drive_pci(offset % 64U * 0x1000U + (how & 1), how / 2);
            break;
        case 6: { // descriptors and rings
            const auto bytes = input.take(how);
            fill(world, offset % 64U * 0x1000U + (kind & 8 ? 0x400U : 0U), bytes);
            break;
        }
        default:
            if (how < 32)
                world.devices[how & 1]->change_config();
            else if (how < 48)
                rest(*world.mmio, input, [&] { world.reset_mmio(); });
            else if (how < 64)
                rest(*world.pci, input, [&] { world.reset_pci(); });
            else if (how < 80) // INTx is not heard of yet: the host asks again
                world.irqs.lines[how % world.irqs.lines.size()]->resample.signal();
            tests::turn(world.loop);
        }
    }
    world.reset_mmio();
    world.reset_pci();
    for (const auto& device : world.devices)
        require(!device->active());
    return 0;
}
