// SPDX-License-Identifier: Apache-2.0
// The IOMMU as a device over a save and a restore: its domains come along, and the driver goes on asking.
#include "devices/virtio/iommu.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"
#include "tests/support/state.hpp"

namespace inox::virtio_iommu_state_test {

using namespace devices::virtio;
using fakes::IommuWorld;
using W = IommuWorld;
namespace wire = iommu::wire;

namespace {

constexpr std::uint64_t accepted = wire::feature::map_unmap | wire::feature::probe | feature::version_1;

struct Machine {
    explicit Machine(EventLoop& loop) : device{Iommu::create(world.domains, loop)} {}
    ~Machine() { device->reset(); }
    IommuWorld world{{}, true, false};
    std::shared_ptr<Iommu> device;
};

template <class T> std::uint8_t ask(fakes::VirtioDriver& driver, Iommu& device, T request, wire::Type type) {
    request.head.type = static_cast<std::uint8_t>(type);
    const auto pieces = driver[0].chain().readable(request).writable(sizeof(wire::Tail)).post();
    device.kick(0);
    REQUIRE(driver[0].used());
    return driver.ram.get<std::uint8_t>(pieces.back().address);
}

} // namespace

TEST_CASE("a restored IOMMU has its domains, and its driver can take them apart") {
    EventLoop loop;
    fakes::VirtioDriver driver;
    Machine old{loop};
    driver.activate(*old.device, accepted);
    CHECK(ask(driver, *old.device, wire::Attach{{}, 3, W::disk.raw(), 0, 0}, wire::Type::attach) == 0);
    CHECK(ask(driver, *old.device, wire::Map{{}, 3, 0x5000, 0x5fff, 0x9000, 3}, wire::Type::map) == 0);
    REQUIRE(old.device->drain());

    Machine fresh{loop};
    const auto saved = tests::save(*old.device);
    REQUIRE(tests::replace(driver, *fresh.device, saved));
    CHECK(tests::save(*fresh.device) == saved);
    fresh.device->resume();
    CHECK(fresh.world.reach(5) == 9);
    CHECK(fresh.world.domains.has_driver());
    CHECK(ask(driver, *fresh.device, wire::Unmap{{}, 3, 0x5000, 0x5fff, 0}, wire::Type::unmap) == 0);
    CHECK_FALSE(fresh.world.reach(5));
}

TEST_CASE("faults that the driver was not told of yet come before an IOMMU is at rest") {
    EventLoop loop;
    fakes::VirtioDriver driver;
    Machine machine{loop};
    driver.activate(*machine.device, accepted);
    driver[1].chain().writable(sizeof(wire::FaultRecord)).post();
    REQUIRE(machine.world.attach(3, W::disk) == iommu::Status::ok);
    CHECK_FALSE(machine.world.reach(5));
    CHECK_FALSE(machine.device->drain());
    tests::turn(loop);
    CHECK(machine.device->drain());
    CHECK(driver[1].used());
}

} // namespace inox::virtio_iommu_state_test
