// SPDX-License-Identifier: Apache-2.0
// Opening devices by both kernel interfaces, and what prevents it.
#include "tests/catch.hpp"
#include "tests/fakes/vfio_host.hpp"

namespace inox::vfio_open_test {

using namespace inox::devices::vfio;

namespace {

constexpr const char* address = "0000:01:00.0";

struct OpenHost : fakes::VfioHost {
    Error error(const OpenOptions& options) {
        const auto device = Device::open(session(), options);
        REQUIRE_FALSE(device);
        CHECK_FALSE(device.error().hint.empty());
        return device.error();
    }
    Error error(Backend backend = Backend::automatic) { return error({"dev", address, backend, {}, {}}); }
};

} // namespace

#define BOTH_KINDS GENERATE(Backend::container, Backend::iommufd)

TEST_CASE("iommufd is chosen where host and device have it, the container elsewhere, and either can be forced") {
    OpenHost host;
    host.kernel.add(address, 7, "vfio0");
    host.kernel.add("0000:02:00.0", 8);
    CHECK(host.open(address)->backend() == Backend::iommufd);
    CHECK(host.open(address, Backend::container)->backend() == Backend::container);
    CHECK(host.open(address, Backend::iommufd)->iommufd_id() != 0);
    CHECK(host.open("0000:02:00.0")->backend() == Backend::container);
    CHECK(host.open("02:00.0")->group() == 8);
    CHECK(host.try_open("0000:02:00.0", Backend::iommufd).error().code == Errc::vfio_missing);
    host.kernel.tree.remove("dev/iommu");
    CHECK(host.open(address)->backend() == Backend::container);
    CHECK(host.error(Backend::iommufd).what.find("/dev/iommu") != std::string::npos);
}

TEST_CASE("a device can be named by its directory in sysfs") {
    OpenHost host;
    host.kernel.add(address, 7);
    CHECK(host.open(std::string{"/sys/bus/pci/devices/"} + address)->name() == "dev (0000:01:00.0)");
    CHECK(host.open(std::string{"/sys/bus/pci/devices/"} + address + "/")->group() == 7);
    CHECK(host.try_open("/sys/bus/pci/devices/0000:09:00.0").error().code == Errc::not_found);
    CHECK(host.try_open("/sys/bus/pci/devices/nvme0").error().code == Errc::config_value);
    CHECK(host.try_open("/dev/0000:01:00.0").error().code == Errc::config_value);
    CHECK(host.try_open("/sys/").error().code == Errc::config_value);
    CHECK(host.try_open("nvme0").error().code == Errc::config_value);
}

TEST_CASE("devices of one group share the address space, and a group keeps its backend") {
    OpenHost host;
    const auto backend = BOTH_KINDS;
    host.kernel.add(address, 7, "vfio0");
    host.kernel.add("0000:01:00.1", 7, "vfio1");
    host.kernel.add("0000:02:00.0", 8, "vfio2");
    auto one = host.open(address, backend);
    const auto two = host.open("0000:01:00.1", backend);
    const auto other = host.open("0000:02:00.0", backend);
    CHECK(&one->dma() == &two->dma());
    CHECK(&one->dma() != &other->dma());
    const auto clash = host.try_open(address, backend);
    REQUIRE_FALSE(clash);
    CHECK(clash.error().code == Errc::in_use);
    CHECK(clash.error().what == "0000:01:00.0 is assigned already, as dev");
    one.reset();
    const auto wrong = host.try_open(address, backend == Backend::container ? Backend::iommufd : Backend::container);
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().code == Errc::config_value);
    CHECK(host.open(address, backend)->group() == 7);
}

TEST_CASE("a vendor's driver that offers its device by VFIO opens by both interfaces") {
    OpenHost host;
    host.kernel.tree.vfio_drivers.insert("nvidia");
    host.kernel.tree.with_vfio_class();
    host.kernel.add(address, 7, "vfio0");
    host.kernel.tree.set_driver(address, "nvidia");
    CHECK(host.open(address, Backend::container)->backend() == Backend::container);
    CHECK(host.open(address, Backend::iommufd)->backend() == Backend::iommufd);
}

TEST_CASE("without a wish a device opens as the others of its group did") {
    OpenHost host;
    host.kernel.add(address, 7, "vfio0");
    host.kernel.add("0000:01:00.1", 7, "vfio1");
    const auto one = host.open(address, Backend::container);
    CHECK(host.open("0000:01:00.1")->backend() == Backend::container);
}

TEST_CASE("each device that joins an I/O address space narrows what may be mapped there") {
    OpenHost host;
    host.kernel.add(address, 7, "vfio0");
    host.kernel.add("0000:01:00.1", 7, "vfio1");
    host.kernel.reserved["0000:01:00.1"] = {0x10000000, 0x1fffffff};
    const auto one = host.open(address, Backend::iommufd);
    CHECK(one->dma().apertures().size() == 2);
    const auto memory = host.pages(0x1000);
    REQUIRE(host.session().memory().add(memory, "memory"));
    SECTION("and is refused where that is mapped already") {
        REQUIRE(one->dma().map(fakes::iovas(0x10000000, 0x10000fff), memory, Access::read));
        const auto refused = host.try_open("0000:01:00.1", Backend::iommufd);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::reserved_conflict);
        CHECK(one->dma().apertures().size() == 2);
        REQUIRE(one->dma().unmap(fakes::iovas(0x10000000, 0x10000fff)));
    }
    const auto two = host.open("0000:01:00.1", Backend::iommufd);
    REQUIRE(one->dma().apertures().size() == 3);
    CHECK(one->dma().apertures()[1] == fakes::iovas(0x20000000, 0xfedfffff));
    CHECK(one->dma().map(fakes::iovas(0x10000000, 0x10000fff), memory, Access::read).error().code ==
          Errc::config_value);
    CHECK(host.kernel.count("map") <= 1); // refused before the kernel is asked
}

TEST_CASE("KVM learns of the file before the device opens and forgets it before the file closes") {
    OpenHost host;
    const auto backend = BOTH_KINDS;
    std::vector<int> known;
    host.hooks.add_to_kvm = [&](int fd) -> Result<Registration> {
        CHECK(host.kernel.count("device_fd") + host.kernel.count("bind") == 0);
        known.push_back(fd);
        return Registration{[&, fd] {
            CHECK(::fcntl(fd, F_GETFD) >= 0);
            std::erase(known, fd);
        }};
    };
    host.kernel.add(address, 7, "vfio0");
    auto device = host.open(address, backend);
    CHECK(known.size() == 1);
    device.reset();
    CHECK(known.empty());
}

TEST_CASE("every file is closed with the last device, whatever happened before") {
    OpenHost host;
    const auto backend = BOTH_KINDS;
    auto& fake = host.kernel.add(address, 7, "vfio0");
    fake.regions[region_config].size = 0;
    const auto broken = host.try_open(address, backend);
    REQUIRE_FALSE(broken);
    CHECK(host.kernel.open_files() == 0);
    fake.regions[region_config].size = 256;
    auto device = host.open(address, backend);
    CHECK(host.kernel.open_files() == (backend == Backend::container ? 3 : 2));
    device.reset();
    CHECK(host.kernel.open_files() == 0);
    CHECK_FALSE(fake.open);
}

TEST_CASE("a device that another process has is in use") {
    OpenHost host;
    auto& fake = host.kernel.add(address, 7, "vfio0");
    SECTION("the group") {
        const UniqueFd other{host.kernel.open(host.kernel.tree.root() + "/dev/vfio/7")};
        CHECK(host.error(Backend::container).code == Errc::in_use);
    }
    SECTION("the device by its file") {
        fake.open = true;
        CHECK(host.error(Backend::iommufd).code == Errc::in_use);
    }
    SECTION("the device by its group") {
        fake.open = true;
        CHECK(host.error(Backend::container).code == Errc::in_use);
    }
}

TEST_CASE("a host that does not isolate interrupts is unsafe") {
    OpenHost host;
    const auto backend = BOTH_KINDS;
    host.kernel.add(address, 7, "vfio0");
    host.kernel.isolated_interrupts = false;
    const auto error = host.error(backend);
    CHECK(error.code == Errc::iommu_unsafe);
    CHECK(error.hint.find("allow_unsafe_interrupts") != std::string::npos);
}

TEST_CASE("a container without type1 is a missing module") {
    OpenHost host;
    host.kernel.add(address, 7);
    host.kernel.type1_loaded = false;
    CHECK(host.error().code == Errc::vfio_missing);
}

TEST_CASE("a VF token is given to the kernel, and a wrong or missing one is told apart") {
    OpenHost host;
    const std::string token = "00112233-4455-6677-8899-aabbccddeeff";
    host.kernel.add(address, 7, "vfio0").token = token;
    CHECK(host.error(Backend::container).code == Errc::vfio_denied);
    CHECK(host.error({"dev", address, Backend::container, {}, "00112233-4455-6677-8899-aabbccddeef0"}).hint ==
          "this is not the vf_token of the process that uses the physical function");
    CHECK(Device::open(host.session(), {"dev", address, Backend::container, {}, token}));
    CHECK(host.error({"dev", address, Backend::iommufd, {}, token}).code == Errc::unsupported);
    host.kernel.bind_takes_token = true;
    CHECK(Device::open(host.session(), {"dev", address, Backend::iommufd, {}, token}));
    CHECK(host.error({"dev", address, Backend::iommufd, {}, "0011"}).code == Errc::config_value);
}

TEST_CASE("a token for a device that has none is refused with what to do") {
    OpenHost host;
    const std::string token = "00112233-4455-6677-8899-aabbccddeeff";
    host.kernel.add(address, 7, "vfio0");
    host.kernel.bind_takes_token = GENERATE(false, true);
    const auto container = host.error({"dev", address, Backend::container, {}, token});
    CHECK(container.code == Errc::config_value);
    CHECK(container.what.ends_with("has no VF token"));
    CHECK(container.hint.starts_with("leave out vf_token unless"));
    const auto iommufd = host.error({"dev", address, Backend::iommufd, {}, token});
    CHECK(iommufd.what.find("has no VF token, or") != std::string::npos);
    CHECK(iommufd.hint.starts_with("leave out vf_token unless"));
}

TEST_CASE("files that a launcher opened are used instead of /dev, and the device's is closed with the device") {
    OpenHost host;
    host.kernel.add(address, 7, "vfio0");
    const auto root = host.kernel.tree.root();
    SECTION("group and container") {
        const UniqueFd container{host.kernel.open(root + "/dev/vfio/vfio")};
        const UniqueFd group{host.kernel.open(root + "/dev/vfio/7")};
        ::fcntl(group.get(), F_SETFD, 0);
        for (const auto* path : {"dev/vfio/vfio", "dev/vfio/7"})
            host.kernel.tree.remove(path);
        const auto device = Device::open(
            host.session(), {"dev", address, Backend::automatic, {container.get(), group.get(), -1, -1}, {}});
        REQUIRE(device);
        CHECK((*device)->backend() == Backend::container);
        CHECK(::fcntl(group.get(), F_GETFD) == FD_CLOEXEC);
        CHECK(host.kernel.open_files() == 3);
    }
    SECTION("device and iommufd, without sysfs") {
        const UniqueFd iommu{host.kernel.open(root + "/dev/iommu")};
        UniqueFd file{host.kernel.open(root + "/dev/vfio/devices/vfio0")};
        host.kernel.tree.remove("dev");
        host.kernel.tree.remove("sys/bus");
        auto device = Device::open(host.session(),
                                   {"dev", address, Backend::automatic, {-1, -1, iommu.get(), file.release()}, {}});
        REQUIRE(device);
        CHECK((*device)->backend() == Backend::iommufd);
        CHECK(host.kernel.open_files() == 2);
        device->reset();
        CHECK(host.kernel.open_files() == 1);
    }
    SECTION("a descriptor that is not open") {
        CHECK(host.error({"dev", address, Backend::automatic, {-1, 999, -1, -1}, {}}).code == Errc::config_value);
    }
}

TEST_CASE("a device that vanishes while it is opened is an error") {
    OpenHost host;
    const auto backend = BOTH_KINDS;
    host.kernel.add(address, 7, "vfio0").gone = true;
    CHECK(host.error(backend).code == Errc::not_found);
    CHECK(host.kernel.open_files() == 0);
}

TEST_CASE("what is no PCI device is refused") {
    OpenHost host;
    host.kernel.add(address, 7).flags = VFIO_DEVICE_FLAGS_RESET;
    CHECK(host.error().code == Errc::unsupported);
}

TEST_CASE("the reserved regions of a device have their labels, and its window its page sizes") {
    OpenHost host;
    const auto backend = BOTH_KINDS;
    host.kernel.add(address, 7, "vfio0");
    const auto device = host.open(address, backend);
    REQUIRE(device->dma().reserved().size() == 1);
    CHECK(device->dma().reserved()[0] ==
          iommu::ReservedRegion{fakes::iovas(0xfee00000, 0xfeefffff), iommu::ReservedKind::msi});
    REQUIRE(device->dma().apertures().size() == 2);
    CHECK(device->dma().apertures()[1] == fakes::iovas(0xfef00000, 0x7fffffffff));
    CHECK(device->dma().page_sizes() == (backend == Backend::container ? 0x40201000 : ~std::uint64_t{0xfff}));
}

TEST_CASE("an older container that tells no ranges leaves the labels to say what is reserved") {
    OpenHost host;
    host.kernel.add(address, 7);
    host.kernel.rules.range_list = false;
    const auto device = host.open(address);
    REQUIRE(device->dma().apertures().size() == 2);
    CHECK(device->dma().apertures()[1] == fakes::iovas(0xfef00000, ~std::uint64_t{0}));
    REQUIRE(device->dma().reserved().size() == 1);
}

TEST_CASE("many ranges take a second question") {
    OpenHost host;
    const auto backend = BOTH_KINDS;
    host.kernel.add(address, 7, "vfio0");
    host.kernel.rules.ranges.clear();
    for (std::uint64_t i = 0; i < 40; ++i)
        host.kernel.rules.ranges.emplace_back(0x100000000 + i * 0x2000000, 0x100000000 + i * 0x2000000 + 0xffffff);
    const auto device = host.open(address, backend);
    CHECK(device->dma().apertures().size() == 40);
    CHECK(device->dma().reserved().size() == 39 + 1); // the holes, and the MSI window below them
}

} // namespace inox::vfio_open_test
