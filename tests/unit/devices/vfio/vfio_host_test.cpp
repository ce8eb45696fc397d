// SPDX-License-Identifier: Apache-2.0
// What sysfs shows of a device, and what of that prevents its assignment.
#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "devices/vfio/dma/lock_limit.hpp"
#include "devices/vfio/dma/pin_progress.hpp"
#include "devices/vfio/sysfs.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/vfio_tree.hpp"
#include "tests/support/only_problem.hpp"

namespace inox::vfio_host_test {

using namespace devices::vfio;

namespace {

const PciAddress address = *PciAddress::parse("0000:01:00.0");
constexpr const char* name = "0000:01:00.0";

OpenOptions options(Backend backend, const OpenFiles& given = {}) {
    return {.id = {}, .host = {}, .backend = backend, .files = given, .vf_token = {}};
}

struct Tree : fakes::VfioTree {
    [[nodiscard]] SysfsDevice read() const { return read_sysfs_device(root(), address); }
    [[nodiscard]] std::vector<Error> problems(Backend backend = Backend::automatic, const OpenFiles& given = {}) const {
        return assignment_problems(root(), read(), options(backend, given));
    }
    [[nodiscard]] Error only_problem(Backend backend = Backend::automatic) const {
        return tests::only_problem(problems(backend));
    }
};

} // namespace

TEST_CASE("a device's group, driver, BARs, vectors, resets, regions and IOMMU are read from sysfs") {
    Tree tree;
    tree.device(name, 12, "vfio-pci");
    tree.device("0000:01:00.1", 12, "nvme");
    tree.device_file(name, "vfio3");
    const std::string home = "sys/bus/pci/devices/0000:01:00.0";
    tree.file(home + "/reset_method", "flr bus\n");
    tree.file(home + "/resource", "0x00000000fe000000 0x00000000fe003fff 0x0000000000140204\n"
                                  "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                                  "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n"
                                  "0x0000004000000000 0x000000400fffffff 0x000000000014220c\n"
                                  "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                                  "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                                  "0x00000000fe100000 0x00000000fe17ffff 0x0000000000046200\n");
    std::string config(256, '\0');
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    config[0x40] = 0x05; // MSI, 8 vectors
    config[0x41] = 0x60;
    config[0x42] = 3 << 1;
    config[0x60] = 0x11; // MSI-X, 65 vectors
    config[0x62] = 64;
    tree.file(home + "/config", config);
    tree.link(home + "/iommu", "../../../devices/virtual/iommu/dmar0");
    tree.file("sys/class/iommu/dmar0/intel-iommu/cap", "d2008c222f0606\n");
    const auto device = tree.read();
    CHECK(device.exists);
    CHECK(device.function.id == "1b36:0010");
    CHECK(device.function.driver == "vfio-pci");
    CHECK(device.group == 12U);
    REQUIRE(device.members.size() == 2);
    CHECK(device.members[1].driver == "nvme");
    CHECK(device.resets == std::vector<std::string>{"flr", "bus"});
    REQUIRE(device.bars.size() == 4);
    CHECK(device.bars[0].size == 0x4000);
    CHECK(device.bars[0].wide);
    CHECK_FALSE(device.bars[0].prefetchable);
    CHECK(device.bars[1].io);
    CHECK(device.bars[1].index == 2);
    CHECK(device.bars[2].prefetchable);
    CHECK(device.bars[3].index == 6);
    CHECK(device.msi_vectors == 8);
    CHECK(device.msix_vectors == 65);
    CHECK(device.iommu == "dmar0");
    CHECK(device.address_bits == 48);
    CHECK(device.device_file == "/dev/vfio/devices/vfio3");
    REQUIRE(device.reserved.size() == 1);
}

TEST_CASE("a capability list that loops or leaves configuration space ends") {
    Tree tree;
    tree.device(name, 12, "vfio-pci");
    std::string config(256, '\0');
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    config[0x40] = 0x01;
    config[0x41] = 0x40;
    tree.file("sys/bus/pci/devices/0000:01:00.0/config", config);
    CHECK(tree.read().msix_vectors == 0);
    config[0x41] = static_cast<char>(0xfc);
    config[0xfc] = 0x11;
    tree.file("sys/bus/pci/devices/0000:01:00.0/config", config.substr(0, 0xfe));
    CHECK(tree.read().msix_vectors == 1);                                       // the count is not in the file
    tree.file("sys/bus/pci/devices/0000:01:00.0/config", config.substr(0, 64)); // what a user without rights may read
    CHECK(tree.read().msix_vectors == 0);
}

TEST_CASE("a device that is ready has no problem, by either interface") {
    Tree tree;
    tree.device(name, 12, "vfio-pci");
    CHECK(tree.problems().empty());
    CHECK(choose_backend(tree.root(), tree.read(), {}) == Backend::container);
    tree.device_file(name, "vfio3");
    CHECK(tree.problems(Backend::iommufd).empty());
    CHECK(choose_backend(tree.root(), tree.read(), {}) == Backend::iommufd);
    CHECK(choose_backend(tree.root(), tree.read(), options(Backend::automatic, {-1, 5, -1, -1})) == Backend::container);
    tree.remove("dev/vfio/devices");
    CHECK(choose_backend(tree.root(), tree.read(), {}) == Backend::container);
    CHECK(choose_backend(tree.root(), tree.read(), options(Backend::automatic, {-1, -1, -1, 5})) == Backend::iommufd);
}

TEST_CASE("no such device is told, and nothing else") { CHECK(Tree{}.only_problem().code == Errc::not_found); }

TEST_CASE("another driver is named, with the two commands that bind vfio-pci") {
    Tree tree;
    tree.device(name, 12, "nvme");
    const auto problem = tree.only_problem();
    CHECK(problem.code == Errc::vfio_driver);
    CHECK(problem.what == "0000:01:00.0 is bound to the driver nvme, not to vfio-pci");
    CHECK(problem.hint == "echo vfio-pci | sudo tee /sys/bus/pci/devices/0000:01:00.0/driver_override; "
                          "echo 0000:01:00.0 | sudo tee /sys/bus/pci/devices/0000:01:00.0/driver/unbind "
                          "/sys/bus/pci/drivers_probe");
    tree.set_driver(name, "");
    CHECK(tree.only_problem().hint == "echo vfio-pci | sudo tee /sys/bus/pci/devices/0000:01:00.0/driver_override; "
                                      "echo 0000:01:00.0 | sudo tee /sys/bus/pci/drivers_probe");
}

TEST_CASE("a vendor's variant of vfio-pci will do") {
    Tree tree;
    tree.device(name, 12, "mlx5_vfio_pci");
    CHECK(tree.problems().empty());
}

TEST_CASE("what offers a device by VFIO is asked of the kernel, not read from a driver's name") {
    Tree tree;
    SECTION("a kernel that lists VFIO's devices: the vendor's own driver") {
        tree.with_vfio_class();
        tree.device(name, 12, "nvidia");
        CHECK(tree.only_problem().code == Errc::vfio_driver); // its virtual GPU has no type yet
        tree.vfio_drivers.insert("nvidia");
        tree.device(name, 12, "nvidia");
        tree.device_file(name, "vfio3");
        CHECK(tree.problems().empty());
        tree.device("0000:01:00.1", 12, "nvidia"); // in the same group, and not offered
        CHECK(tree.only_problem().code == Errc::vfio_group);
        tree.device_file("0000:01:00.1", "vfio4");
        CHECK(tree.problems().empty());
    }
    SECTION("a kernel that lists VFIO's devices: a name that only sounds so") {
        tree.with_vfio_class();
        tree.device(name, 12, "not_a_vfio_driver");
        CHECK(tree.only_problem().code == Errc::vfio_driver);
        tree.device("0000:02:00.0", 13, "vfio-pci");
        tree.device_file("0000:02:00.0", "vfio1");
        tree.device("0000:02:00.1", 13, "not_a_vfio_driver");
        const auto found =
            assignment_problems(tree.root(), read_sysfs_device(tree.root(), *PciAddress::parse("0000:02:00.0")));
        REQUIRE(found.size() == 1);
        CHECK(found[0].code == Errc::vfio_group);
    }
    SECTION("an older one: there is a file of its group") {
        tree.device(name, 12, "nvidia");
        CHECK(tree.only_problem().code == Errc::vfio_driver);
        tree.vfio_drivers.insert("nvidia");
        tree.device(name, 12, "nvidia");
        CHECK(tree.problems().empty());
    }
}

TEST_CASE("devices that are to reach each other take the container where this user may open it") {
    Tree tree;
    tree.device(name, 12, "vfio-pci");
    tree.device_file(name, "vfio3");
    OpenOptions p2p;
    p2p.p2p = true;
    CHECK(choose_backend(tree.root(), tree.read(), p2p) == Backend::container);
    p2p.backend = Backend::iommufd;
    CHECK(choose_backend(tree.root(), tree.read(), p2p) == Backend::iommufd);
    p2p.backend = Backend::automatic;
    tree.remove("dev/vfio/12");
    CHECK(choose_backend(tree.root(), tree.read(), p2p) == Backend::iommufd);
}

TEST_CASE("an absent module is told before the driver") {
    Tree tree;
    tree.device(name, 12, "nvme");
    tree.remove("sys/bus/pci/drivers/vfio-pci");
    const auto problem = tree.only_problem();
    CHECK(problem.code == Errc::vfio_missing);
    CHECK(problem.hint == "sudo modprobe vfio-pci");
}

TEST_CASE("a group that is not viable names the offender; bridges and stubs do not offend") {
    Tree tree;
    tree.device(name, 12, "vfio-pci");
    tree.device("0000:01:00.1", 12, "pci-stub");
    tree.device("0000:00:1c.0", 12, "pcieport", "0x060400");
    tree.device("0000:01:00.2", 12, "");
    CHECK(tree.problems().empty());
    tree.device("0000:01:00.3", 12, "snd_hda_intel");
    const auto problem = tree.only_problem();
    CHECK(problem.code == Errc::vfio_group);
    CHECK(problem.what ==
          "IOMMU group 12 of 0000:01:00.0 cannot be assigned: 0000:01:00.3 of the same group is used by the driver "
          "snd_hda_intel");
    CHECK(problem.hint.find("0000:01:00.3") != std::string::npos);
}

TEST_CASE("no IOMMU, and VFIO's mode without one, are refused") {
    Tree tree;
    tree.device(name, 12, "vfio-pci");
    SECTION("no group") {
        tree.remove("sys/bus/pci/devices/0000:01:00.0/iommu_group");
        CHECK(tree.only_problem().code == Errc::iommu_missing);
    }
    SECTION("no group before a driver is bound") {
        tree.remove("sys/bus/pci/devices/0000:01:00.0/iommu_group");
        tree.set_driver(name, "");
        tree.file("sys/class/iommu/iommufd_selftest_iommu.0/uevent"); // serves no real device
        CHECK(tree.problems().size() == 2);                           // the driver, and no IOMMU at all
        tree.file("sys/class/iommu/virtio0/uevent");
        CHECK(tree.only_problem().code == Errc::vfio_driver);
    }
    SECTION("VFIO made the group up") {
        tree.file("sys/kernel/iommu_groups/12/name", "vfio-noiommu\n");
        CHECK(tree.only_problem().code == Errc::iommu_missing);
    }
    SECTION("its file says so") {
        tree.remove("dev/vfio/12");
        tree.file("dev/vfio/noiommu-12");
        const auto found = tree.problems();
        REQUIRE_FALSE(found.empty());
        CHECK(found.front().code == Errc::iommu_missing);
    }
}

TEST_CASE("a device that firmware keeps mapped is refused, a relaxable one is not") {
    Tree tree;
    tree.device(name, 12, "vfio-pci");
    tree.file("sys/kernel/iommu_groups/12/reserved_regions", "0x7b800000 0x7f7fffff direct-relaxable\n");
    CHECK(tree.problems().empty());
    tree.file("sys/kernel/iommu_groups/12/reserved_regions", "0x7b800000 0x7f7fffff direct\n");
    CHECK(tree.only_problem().code == Errc::reserved_conflict);
}

TEST_CASE("missing and forbidden files of VFIO are told apart") {
    Tree tree;
    tree.device(name, 12, "vfio-pci");
    tree.device_file(name, "vfio3");
    SECTION("no container") {
        tree.remove("dev/vfio/vfio");
        CHECK(tree.only_problem(Backend::container).what == "/dev/vfio/vfio does not exist");
        CHECK(tree.only_problem(Backend::container).code == Errc::vfio_missing);
        CHECK(tree.problems(Backend::container, {5, 6, -1, -1}).empty()); // a launcher opened it
    }
    SECTION("no group") {
        tree.remove("dev/vfio/12");
        CHECK(tree.only_problem(Backend::container).what == "/dev/vfio/12 does not exist");
    }
    SECTION("no iommufd") {
        tree.remove("dev/iommu");
        CHECK(tree.only_problem(Backend::iommufd).what == "/dev/iommu does not exist");
        CHECK(tree.problems().empty()); // "auto" uses the container
    }
    SECTION("no device file") {
        tree.remove("sys/bus/pci/devices/0000:01:00.0/vfio-dev");
        CHECK(tree.only_problem(Backend::iommufd).code == Errc::vfio_missing);
    }
    SECTION("forbidden") {
        if (::geteuid() == 0)
            return; // root may open anything
        std::filesystem::permissions(tree.root() + "/dev/vfio/12", std::filesystem::perms::none);
        CHECK(tree.only_problem(Backend::container).code == Errc::vfio_denied);
        CHECK(tree.only_problem(Backend::container).hint == "sudo chown $USER /dev/vfio/12");
    }
}

TEST_CASE("while much memory is pinned, how far it is is told once a second and at the end") {
    Tree tree;
    std::mutex mutex;
    std::condition_variable told;
    std::vector<std::uint64_t> reports;
    const PinProgress::Report report = [&](std::uint64_t done, std::uint64_t total) {
        const std::scoped_lock lock{mutex};
        CHECK(total == PinProgress::large);
        reports.push_back(done);
        told.notify_one();
    };
    { const PinProgress small{tree.root(), PinProgress::large - 1, report}; }
    { const PinProgress quick{tree.root(), PinProgress::large, report}; }
    CHECK(reports.empty()); // finished before a report is due
    {
        const PinProgress slow{tree.root(), PinProgress::large, report};
        tree.file("proc/self/status", "VmLck:\t 1024 kB\nVmPin:\t 1024 kB\n");
        std::unique_lock lock{mutex};
        REQUIRE(told.wait_for(lock, std::chrono::seconds{20}, [&] { return !reports.empty(); }));
    }
    CHECK(reports.front() == 2 * 1024 * 1024);
    CHECK(reports.back() == PinProgress::large);
    reports.clear();
    {
        PinProgress slow{tree.root(), PinProgress::large, report}; // gathers huge pages first
        slow.gathered(3 * MiB);
        slow.gathered(MiB);
        std::unique_lock lock{mutex};
        REQUIRE(told.wait_for(lock, std::chrono::seconds{20}, [&] { return !reports.empty(); }));
    }
    CHECK(reports.front() == 4 * MiB);
}

TEST_CASE("the limit on locked memory is none for who may lock, and counts what is locked already") {
    Tree tree;
    tree.file("proc/self/status", "CapEff:\t0000000000004000\nVmLck:\t  64 kB\n");
    CHECK_FALSE(LockLimit::of_process(tree.root()).bytes());
    CHECK(locked_now(tree.root()) == 64 * 1024);
    CHECK(LockLimit{std::nullopt}.check(1, ~std::uint64_t{0} >> 1, "all"));
    const LockLimit limit{100 * 1024, 40 * 1024};
    CHECK(limit.check(20 * 1024, 40 * 1024, "this"));
    CHECK_FALSE(limit.check(20 * 1024, 40 * 1024 + 1, "this"));
}

} // namespace inox::vfio_host_test
