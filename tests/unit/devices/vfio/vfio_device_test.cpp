// SPDX-License-Identifier: Apache-2.0
// Regions, interrupts and resets of an opened device.
#include <array>

#include "tests/catch.hpp"
#include "tests/fakes/vfio_host.hpp"

namespace inox::vfio_device_test {

using namespace inox::devices::vfio;

namespace {

constexpr const char* address = "0000:01:00.0";
constexpr auto mappable = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP;

struct Host : fakes::VfioHost {
    fakes::VfioDevice& fake{kernel.add(address, 7, "vfio0")};
    std::unique_ptr<Device> device{};
    Device& open_it(Backend backend = Backend::container) {
        device = open(address, backend);
        return *device;
    }
};

template <std::size_t N> std::array<EventFd, N> events() {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
        return std::array<EventFd, N>{(static_cast<void>(I), EventFd::create().value())...};
    }
    (std::make_index_sequence<N>{});
}

} // namespace

TEST_CASE("regions have size, access and the areas that may be mapped") {
    Host host;
    host.fake.regions[2] = {0x8000, mappable, false, {{0, 0x2000}, {0x4000, 0x4000}}};
    host.fake.regions[3] = {0x1000, VFIO_REGION_INFO_FLAG_READ, false, {}};
    host.fake.regions[4] = {0x100, mappable, true, {{0, 0x100}}};
    const auto& device = host.open_it();
    CHECK(device.region(0).size == 0x4000);
    CHECK(device.region(0).msix_mappable);
    CHECK(device.region(0).areas == std::vector<RegionArea>{{0, 0x4000}});
    CHECK(device.region(1).size == 0);
    CHECK_FALSE(device.region(2).msix_mappable);
    CHECK(device.region(2).areas == std::vector<RegionArea>{{0, 0x2000}, {0x4000, 0x4000}});
    CHECK(device.region(3).areas.empty());
    CHECK_FALSE(device.region(3).writable);
    CHECK(device.region(4).areas == std::vector<RegionArea>{{0, 0x100}}); // two capabilities, each smaller than a page
    CHECK(device.region(region_config).areas.empty());
}

TEST_CASE("areas that leave their region, overlap or are not whole pages are not mapped") {
    Host host;
    host.fake.regions[2] = {
        0x8000, mappable, false, {{0x4000, 0x2000}, {0x5000, 0x1000}, {0x800, 0x800}, {0x7000, 0x2000}, {0, 0}}};
    CHECK(host.open_it().region(2).areas == std::vector<RegionArea>{{0x4000, 0x2000}});
}

TEST_CASE("an access keeps its width, stays in its region, and reads ones when it fails") {
    Host host;
    auto& device = host.open_it();
    std::array<std::byte, 4> word{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
    REQUIRE(device.write(0, 0x10, word));
    CHECK(host.fake.last_width == 4);
    std::array<std::byte, 2> half{};
    REQUIRE(device.read(0, 0x12, half));
    CHECK(host.fake.last_width == 2);
    CHECK(half[0] == std::byte{3});
    CHECK_FALSE(device.read(0, 0x3fff, half));
    CHECK(half[0] == std::byte{0xff});
    CHECK_FALSE(device.read(0, ~std::uint64_t{0}, half));
    CHECK_FALSE(device.write(0, 0x4000, word));
    CHECK_FALSE(device.read(1, 0, half)); // there is no such region
    host.fake.io_error = true;
    CHECK_FALSE(device.read(region_config, 0, half));
    CHECK(half[1] == std::byte{0xff});
    CHECK_FALSE(device.write(region_config, 0, half));
}

TEST_CASE("a part of an area is mapped, and it is the device's memory") {
    Host host;
    const auto& device = host.open_it();
    const auto mapping = device.map(0, {0x1000, 0x2000});
    REQUIRE(mapping);
    CHECK(mapping->bytes().size() == 0x2000);
    mapping->bytes()[4] = std::byte{0x5a};
    std::array<std::byte, 1> byte{};
    REQUIRE(device.read(0, 0x1004, byte));
    CHECK(byte[0] == std::byte{0x5a});
    CHECK_FALSE(device.map(0, {0x800, 0x1000}));
    CHECK_FALSE(device.map(0, {0x3000, 0x2000}));
    CHECK_FALSE(device.map(0, {0x1000, 0}));
    CHECK_FALSE(device.map(1, {0, 0x1000}));
}

TEST_CASE("interrupts signal the eventfds they are wired to") {
    Host host;
    auto& device = host.open_it(GENERATE(Backend::container, Backend::iommufd));
    CHECK(device.interrupt(Interrupt::msix).count == 8);
    CHECK(device.interrupt(Interrupt::msix).resizable);
    CHECK_FALSE(device.interrupt(Interrupt::msi).resizable);
    CHECK(device.interrupt(Interrupt::intx).automasked);
    const auto fds = events<3>();
    REQUIRE(device.enable(Interrupt::msix, 0, std::array{fds[0].fd(), -1}));
    host.fake.interrupt(2, 0);
    host.fake.interrupt(2, 1);
    CHECK(fds[0].drain() == 1);
    REQUIRE(device.enable(Interrupt::msix, 1, std::array{fds[1].fd()}));
    REQUIRE(device.enable(Interrupt::msix, 7, std::array{fds[2].fd()})); // not enabled before: the host can add it
    host.fake.interrupt(2, 7);
    CHECK(fds[2].drain() == 1);
    REQUIRE(device.trigger(Interrupt::msix, 0, 2)); // loopback
    CHECK(fds[0].drain() == 1);
    CHECK(fds[1].drain() == 1);
    CHECK_FALSE(device.enable(Interrupt::msi, 0, std::array{fds[0].fd()})); // MSI-X is on
    CHECK_FALSE(device.enable(Interrupt::msix, 8, std::array{fds[0].fd()}));
    CHECK_FALSE(device.enable(Interrupt::msix, 0, {}));
    REQUIRE(device.disable(Interrupt::msix));
    host.fake.interrupt(2, 0);
    CHECK(fds[0].drain() == 0);
    REQUIRE(device.enable(Interrupt::msi, 0, std::array{fds[0].fd()}));
    REQUIRE(device.enable(Interrupt::error, 0, std::array{fds[1].fd()})); // allowed together with any other
    REQUIRE(device.enable(Interrupt::request, 0, std::array{fds[2].fd()}));
    host.fake.interrupt(4, 0);
    CHECK(fds[2].drain() == 1);
}

TEST_CASE("INTx masks itself and is unmasked by hand or by an event") {
    Host host;
    auto& device = host.open_it();
    const auto fds = events<2>();
    CHECK_FALSE(device.unmask_intx()); // not enabled
    REQUIRE(device.enable(Interrupt::intx, 0, std::array{fds[0].fd()}));
    host.fake.interrupt(0, 0);
    host.fake.interrupt(0, 0);
    CHECK(fds[0].drain() == 1);
    CHECK(host.fake.masked);
    REQUIRE(device.unmask_intx());
    CHECK_FALSE(host.fake.masked);
    REQUIRE(device.unmask_intx_on(fds[1].fd()));
    CHECK(bool{host.fake.unmask_event});
    REQUIRE(device.unmask_intx_on(-1));
    CHECK_FALSE(bool{host.fake.unmask_event});
}

TEST_CASE("a function resets alone when it can") {
    Host host;
    auto& device = host.open_it();
    CHECK(device.can_reset());
    CHECK(host.fake.resets == 1); // by the host, when it was opened
    CHECK(device.reset_by_opening());
    REQUIRE(device.reset());
    CHECK(host.fake.resets == 2);
    host.device.reset();
    host.fake.flags &= ~static_cast<std::uint32_t>(VFIO_DEVICE_FLAGS_RESET);
    CHECK_FALSE(host.open_it().can_reset());
    CHECK_FALSE(host.device->reset_by_opening());
    CHECK(host.device->reset().error().code == Errc::unsupported);
}

TEST_CASE("a bus reset is done when every function that it reaches is ours, and refused by name otherwise") {
    Host host;
    const auto backend = GENERATE(Backend::container, Backend::iommufd);
    auto& second = host.kernel.add("0000:01:00.1", 8, "vfio1");
    auto& device = host.open_it(backend);
    CHECK(device.reset_peers().error().code == Errc::not_found);
    CHECK(device.hot_reset().error().code == Errc::not_found);
    host.fake.bus = second.bus = {address, "0000:01:00.1"};
    const auto peers = device.reset_peers();
    REQUIRE(peers);
    REQUIRE(peers->size() == 2);
    CHECK((*peers)[0].owned);
    CHECK((*peers)[1].address.text() == "0000:01:00.1");
    CHECK_FALSE((*peers)[1].owned);
    const auto refused = device.hot_reset();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::in_use);
    CHECK(refused.error().what.find("0000:01:00.1") != std::string::npos);
    CHECK(host.fake.hot_resets == 0);
    const auto other = host.open("0000:01:00.1", backend);
    REQUIRE(device.hot_reset());
    CHECK(host.fake.hot_resets == 1);
    CHECK(second.hot_resets == 1);
}

TEST_CASE("a bus that cannot be reset says why, by both interfaces") {
    Host host;
    const auto backend = GENERATE(Backend::container, Backend::iommufd);
    SECTION("it has none") {
        auto& device = host.open_it(backend);
        const auto refused = device.hot_reset();
        REQUIRE_FALSE(refused);
        CHECK(refused.error().message() ==
              "dev (0000:01:00.0) has no reset method, and the bridge above its bus offers no reset");
    }
    SECTION("it is the host's own") {
        host.kernel.tree.remove("sys/bus/pci/devices/0000:01:00.0");
        host.kernel.tree.directory("sys/devices/pci0000:00/0000:01:00.0/vfio-dev/vfio0");
        host.kernel.tree.link("sys/devices/pci0000:00/0000:01:00.0/driver", "../../../bus/pci/drivers/vfio-pci");
        host.kernel.tree.link("sys/devices/pci0000:00/0000:01:00.0/iommu_group", "../../../kernel/iommu_groups/7");
        host.kernel.tree.link("sys/bus/pci/devices/0000:01:00.0", "../../../devices/pci0000:00/0000:01:00.0");
        auto& device = host.open_it(backend);
        CHECK(device.hot_reset().error().message() == "dev (0000:01:00.0) has no reset method, and it is on the host's "
                                                      "root bus, which cannot be reset");
    }
    SECTION("somebody else's driver has a function behind it") {
        host.kernel.tree.device("0000:01:00.1", 7, "");
        host.kernel.tree.device("0000:01:00.2", 7, "pci-stub");
        host.fake.bus = {address, "0000:01:00.1", "0000:01:00.2"};
        auto& device = host.open_it(backend);
        const auto refused = device.hot_reset();
        REQUIRE_FALSE(refused);
        if (backend == Backend::container)
            CHECK(refused.error().message() ==
                  "the bus of dev (0000:01:00.0) cannot be reset: its bus is shared with 0000:01:00.1 (no driver), "
                  "0000:01:00.2 (driver pci-stub), not bound to vfio-pci");
        else // the kernel knows whose they are
            CHECK(refused.error().message().find("would reset 0000:01:00.1, which is not ours") != std::string::npos);
        CHECK_FALSE(refused.error().hint.empty());
        CHECK(refused.error().message().find("Invalid argument") == std::string::npos);
    }
}

TEST_CASE("two functions of one group give the kernel the group once") {
    Host host;
    host.kernel.add("0000:01:00.1", 7);
    host.fake.bus = {address, "0000:01:00.1"};
    REQUIRE(host.open_it().hot_reset());
    CHECK(host.fake.hot_resets == 1);
}

TEST_CASE("closing turns interrupts off and lets go of their events") {
    Host host;
    const auto fds = events<1>();
    REQUIRE(host.open_it().enable(Interrupt::msix, 0, std::array{fds[0].fd()}));
    host.device.reset();
    CHECK(host.fake.vectors[2].events.empty());
    CHECK(host.kernel.open_files() == 0);
    CHECK_FALSE(host.fake.open);
}

} // namespace inox::vfio_device_test
