// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/vfio_preflight.hpp"

#include "devices/vfio/dma/lock_limit.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/vfio_kernel.hpp"
#include "tests/support/only_problem.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::vfio_preflight_test {

using devices::vfio::LockLimit;

namespace {

const LockLimit no_limit{std::nullopt};

struct Host : fakes::VfioTree {
    Config config{};
    Host() {
        device("0000:01:00.0", 1, "vfio-pci");
        config.machine.memory = 256 * MiB;
        want("0000:01:00.0");
    }
    void want(const std::string& address) { put_device(config, VfioConfig{.open = {.id = address, .host = address}}); }
    VfioConfig& wanted(const std::string& address) { return *find_device<VfioConfig>(config, address); }
    [[nodiscard]] std::vector<Error> problems(LockLimit limit = no_limit) const { return look(limit).problems; }
    [[nodiscard]] VfioFindings look(LockLimit limit = no_limit, unsigned bits = 39,
                                    devices::vfio::Kernel* kernel = nullptr) const {
        return vfio_preflight(config, {root(), &limit, bits, kernel});
    }
    [[nodiscard]] Error only_problem(LockLimit limit = no_limit) const { return tests::only_problem(problems(limit)); }
};

} // namespace

TEST_CASE("a configuration without host devices, or with one that is ready, has no problem") {
    const Host host;
    CHECK(host.problems().empty());
    CHECK(vfio_preflight(Config{}, {host.root()}).problems.empty());
    CHECK(vfio_needs_text(vfio_preflight(Config{}, {host.root()}).needs).empty());
}

TEST_CASE("problems of every device are told at its place") {
    Host host;
    host.device("0000:02:00.0", 2, "nvme");
    host.want("0000:02:00.0");
    host.want("0000:03:00.0");
    const auto problems = host.problems();
    REQUIRE(problems.size() == 2);
    CHECK(problems[0].where == "/vfio/1");
    CHECK(problems[0].code == Errc::vfio_driver);
    CHECK(problems[1].where == "/vfio/2");
    CHECK(problems[1].code == Errc::not_found);
}

TEST_CASE("memory to lock is counted once for each group") {
    Host host;
    host.device("0000:01:00.1", 1, "vfio-pci");
    host.want("0000:01:00.1");
    CHECK(host.problems(LockLimit{256 * MiB}).empty());
    host.device("0000:02:00.0", 2, "vfio-pci");
    host.want("0000:02:00.0");
    const auto problem = host.only_problem(LockLimit{256 * MiB});
    CHECK(problem.code == Errc::no_resource);
    CHECK(problem.what.find("524288 KiB") != std::string::npos);
    CHECK(problem.hint.find("ulimit -l 524288") != std::string::npos);
}

TEST_CASE("guest memory on a reserved region, or beyond the IOMMU's width, is a conflict") {
    Host host;
    SECTION("reserved") {
        host.file("sys/kernel/iommu_groups/1/reserved_regions", "0x0fff0000 0x0fffffff reserved\n");
        CHECK(host.only_problem().code == Errc::reserved_conflict);
        host.config.machine.memory = 255 * MiB;
        CHECK(host.problems().empty());
    }
    SECTION("above the hole") {
        host.config.machine.memory = 8 * GiB;
        host.file("sys/kernel/iommu_groups/1/reserved_regions",
                  "0xfee00000 0xfeefffff msi\n0x200000000 0x2000fffff reserved\n");
        CHECK(host.only_problem().what.find("0x200000000") != std::string::npos);
    }
    SECTION("too wide") {
        host.link("sys/bus/pci/devices/0000:01:00.0/iommu", "../../../devices/virtual/iommu/dmar0");
        host.file("sys/class/iommu/dmar0/intel-iommu/cap", "260000\n"); // 39 bits
        CHECK(host.problems().empty());
        host.file("sys/class/iommu/dmar0/intel-iommu/cap", "1f0000\n"); // 32 bits
        CHECK(host.problems().empty());
        host.config.machine.memory = 4 * GiB; // of which 1 GiB lies above the hole
        CHECK(host.only_problem().code == Errc::reserved_conflict);
    }
}

TEST_CASE("behind a virtual IOMMU the guest says what is mapped, so that nothing is needed in advance") {
    Host host;
    put_device(host.config, IommuConfig{});
    host.file("sys/kernel/iommu_groups/1/reserved_regions", "0x0fff0000 0x0fffffff reserved\n");
    host.file("sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "0\n");
    CHECK(host.problems(LockLimit{1 * MiB}).empty());
    put_device(host.config, IommuConfig{.bypass = true}); // the host maps all of it until the guest attaches the device
    CHECK(host.problems(LockLimit{1 * MiB}).size() == 3);
}

TEST_CASE("too few mappings, too large BARs and too many vectors are told") {
    Host host;
    SECTION("mappings") {
        host.file("sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "1\n");
        CHECK(host.problems().empty());
        host.config.machine.memory = 4 * GiB;
        CHECK(host.only_problem().what.find("2 DMA mappings") != std::string::npos);
        host.wanted("0000:01:00.0").open.backend = devices::vfio::Backend::iommufd;
        host.device_file("0000:01:00.0", "vfio0");
        CHECK(host.problems().empty());
    }
    SECTION("BARs") {
        host.file("sys/bus/pci/devices/0000:01:00.0/resource", "0x80000000 0x9fffffff 0x40200\n"
                                                               "0x4000000000 0x43ffffffff 0x14220c\n");
        const auto problem = host.only_problem(); // 512 MiB do not fit 480; 16 GiB prefetchable do
        CHECK(problem.code == Errc::no_resource);
        CHECK(problem.what.find("32-bit") != std::string::npos);
    }
    SECTION("vectors") {
        std::string config(256, '\0');
        config[0x06] = 0x10;
        config[0x34] = 0x40;
        config[0x40] = 0x11;
        config[0x42] = static_cast<char>(0xff);
        config[0x43] = 0x07; // 2048
        host.file("sys/bus/pci/devices/0000:01:00.0/config", config);
        CHECK(host.problems().empty());
        host.device("0000:02:00.0", 2, "vfio-pci");
        host.file("sys/bus/pci/devices/0000:02:00.0/config", config);
        host.want("0000:02:00.0");
        CHECK(host.only_problem().what.find("4096 interrupt vectors") != std::string::npos);
    }
}

TEST_CASE("what the devices take is summed up, each and together") {
    Host host;
    host.file("sys/bus/pci/devices/0000:01:00.0/resource",
              "0x80000000 0x80003fff 0x140204\n" // 64 bits, not prefetchable
              "0x4000000000 0x40000fffff 0x14220c\n"
              "0x0 0x0 0x0\n"
              "0xc000 0xc01f 0x40101\n");
    host.device("0000:01:00.1", 1, "vfio-pci");
    host.want("0000:01:00.1");
    host.device("0000:02:00.0", 2, "vfio-pci");
    host.device_file("0000:02:00.0", "vfio0");
    host.want("0000:02:00.0");
    host.wanted("0000:02:00.0").open.backend = devices::vfio::Backend::iommufd;
    const auto needs = host.look(LockLimit{1 * GiB}).needs;
    REQUIRE(needs.devices.size() == 3);
    CHECK(needs.devices[0].bars == 3);
    CHECK(needs.devices[0].bar_bytes == 16 * KiB + 1 * MiB);
    CHECK(needs.groups == 2);
    CHECK(needs.locked == 512 * MiB);
    CHECK(needs.bars_32 == 0);
    CHECK(needs.bars_64 == 1 * MiB + 16 * KiB);
    CHECK(needs.io_bars == 1);
    CHECK(vfio_needs_text(needs) == "0000:01:00.0: IOMMU group 1, container, 3 BARs of 1040 KiB, 1 vector\n"
                                    "0000:01:00.1: IOMMU group 1, container, 0 BARs, 1 vector\n"
                                    "0000:02:00.0: IOMMU group 2, iommufd, 0 BARs, 1 vector\n"
                                    "together: 512 MiB of memory locked for 2 groups (limit 1 GiB); BARs: 0 bytes of "
                                    "480 MiB below 4 GiB, 1040 KiB of "
                                    "384 GiB above; 3 of 4072 vectors\n");
    put_device(host.config, IommuConfig{});
    CHECK(vfio_needs_text(host.look().needs).find("no memory locked in advance") != std::string::npos);
}

TEST_CASE("BARs of 256 GiB and more together fit where the CPU's addresses do") {
    Host host;
    const auto give = [&](const std::string& address) {
        host.file("sys/bus/pci/devices/" + address + "/resource", "0x4000000000 0x5fffffffff 0x14220c\n"); // 128 GiB
    };
    give("0000:01:00.0");
    for (unsigned i = 2; i <= 4; ++i) {
        const auto address = "0000:0" + std::to_string(i) + ":00.0";
        host.device(address, i, "vfio-pci");
        give(address);
        host.want(address);
    }
    CHECK(host.look(no_limit, 46).problems.empty());
    CHECK(host.look(no_limit, 46).needs.bars_64 == 512 * GiB);
    CHECK(host.only_problem().what == "the devices' BARs need 512 GiB of 64-bit address space, the guest has 384 GiB");
    CHECK(host.only_problem().hint.find("--pci-window-64") != std::string::npos);
    host.config.machine.windows.bars_64 = 256 * GiB;
    CHECK(tests::only_problem(host.look(no_limit, 46).problems).what.find("the guest has 256 GiB") !=
          std::string::npos);
}

TEST_CASE("a BAR that finds no place at a multiple of its size is told, though the sum fits") {
    Host host;
    host.file("sys/bus/pci/devices/0000:01:00.0/resource", "0x80000000 0x8fffffff 0x40200\n"   // 256 MiB
                                                           "0xa0000000 0xa7ffffff 0x40200\n"   // 128 MiB
                                                           "0xb0000000 0xb3ffffff 0x40200\n"); // 64 MiB: 448 of 480
    CHECK(host.problems().empty());
    host.config.machine.windows.bars_32 = 448 * MiB; // 0xc2000000 to 0xddffffff: no aligned 256 MiB
    const auto problem = host.only_problem();
    CHECK(problem.code == Errc::no_resource);
    CHECK(problem.what ==
          "there is no room for BAR 0 of 0000:01:00.0 (256 MiB) beside the others, at a multiple of its "
          "size");
    host.config.machine.windows.bars_32 = 512 * MiB;
    CHECK(host.problems().empty());
}

TEST_CASE("check opens what a start would open: a device that another process has is found, and all are free again") {
    fakes::VfioKernel kernel;
    auto& fake = kernel.add("0000:01:00.0", 1, "vfio0");
    kernel.add("0000:02:00.0", 2);
    Config config;
    config.devices = {VfioConfig{.open = {.id = "a", .host = "0000:01:00.0"}},
                      VfioConfig{.open = {.id = "b", .host = "0000:02:00.0"}}};
    auto& first = std::get<VfioConfig>(config.devices.front());
    const auto look = [&] { return vfio_preflight(config, {kernel.tree.root(), &no_limit, 39, &kernel}); };
    CHECK(look().problems.empty());
    CHECK(kernel.open_files() == 0);
    CHECK(kernel.count("map") == 0);
    SECTION("by its own file") {
        fake.open = true;
        const auto found = look().problems;
        REQUIRE(found.size() == 1);
        CHECK(found[0].code == Errc::in_use);
        CHECK(found[0].where == "/vfio/0");
    }
    SECTION("by its group") {
        const UniqueFd other{kernel.open(kernel.tree.root() + "/dev/vfio/2")};
        const auto found = look().problems;
        REQUIRE(found.size() == 1);
        CHECK(found[0].code == Errc::in_use);
        CHECK(found[0].where == "/vfio/1");
    }
    SECTION("interrupts that are not isolated, and a token that is none") {
        first.open.vf_token = "00112233-4455-6677-8899-aabbccddeeff";
        CHECK(tests::only_problem(look().problems).hint.find("leave out vf_token") != std::string::npos);
        first.open.vf_token.clear();
        kernel.isolated_interrupts = false;
        REQUIRE(look().problems.size() == 2);
        CHECK(look().problems[0].code == Errc::iommu_unsafe);
    }
    CHECK(vfio_preflight(config, {kernel.tree.root(), &no_limit, 39}).problems.empty());
}

} // namespace inox::vfio_preflight_test
