// SPDX-License-Identifier: Apache-2.0
#include "tests/catch.hpp"
#include "vmm/config/config_file.hpp"

namespace inox::config_vfio_test {

using devices::vfio::Backend;

namespace {

ParsedConfig parse(const std::string& device) { return parse_config(R"({"vfio": [)" + device + "]}", Dialect::inox); }
std::string only_problem(const ParsedConfig& parsed) {
    REQUIRE(parsed.problems.size() == 1);
    return std::string{error_name(parsed.problems[0].code)} + " " + parsed.problems[0].where;
}

VfioConfig first(const ParsedConfig& parsed) { return *devices_of<VfioConfig>(parsed.file.config).at(0); }

} // namespace

TEST_CASE("a host device has every key of its section") {
    const auto parsed = parse(R"({"host": "0000:01:00.0", "id": "nic", "backend": "iommufd", "rom": false,
        "vf_token": "00112233-4455-6677-8899-aabbccddeeff", "relocate_msix": "bar3", "iommu_fd": 5, "device_fd": 6})");
    REQUIRE(parsed.problems.empty());
    const auto& device = *devices_of<VfioConfig>(parsed.file.config).at(0);
    CHECK(device.open.host == "0000:01:00.0");
    CHECK(device.open.id == "nic");
    CHECK(device.open.backend == Backend::iommufd);
    CHECK(device.open.vf_token == "00112233-4455-6677-8899-aabbccddeeff");
    CHECK(device.open.files == devices::vfio::OpenFiles{-1, -1, 5, 6});
    CHECK_FALSE(device.rom);
    CHECK(device.relocate_msix);
    CHECK(device.msix_bar == 3U);
}

TEST_CASE("p2p asks for what only the container does, and not behind the guest's IOMMU") {
    CHECK(first(parse(R"({"host": "01:00.0", "p2p": true})")).open.p2p);
    CHECK(parse(R"({"host": "01:00.0", "p2p": true, "backend": "container"})").problems.empty());
    CHECK_FALSE(first(parse(R"({"host": "01:00.0", "p2p": null})")).open.p2p);
    CHECK(only_problem(parse(R"({"host": "01:00.0", "p2p": true, "backend": "iommufd"})")) == "config_value /vfio/0");
    CHECK(only_problem(parse(R"({"host": "01:00.0", "p2p": true, "device_fd": 5})")) == "config_value /vfio/0");
    CHECK(only_problem(parse_config(R"({"vfio": [{"host": "01:00.0", "p2p": true}], "iommu": {}})", Dialect::inox)) ==
          "config_value /vfio/0/p2p");
}

TEST_CASE("who writes to memory without telling is refused where that is tracked") {
    const auto parsed = parse_config(
        R"({"machine-config": {"track_dirty_pages": true}, "vfio": [{"host": "01:00.0"}]})", Dialect::inox);
    CHECK(only_problem(parsed) == "config_value /machine-config/track_dirty_pages");
}

TEST_CASE("windows for BARs have a size, where there is PCI") {
    const auto parsed =
        parse_config(R"({"inox": {"pci_window_32_mib": 1024, "pci_window_64_mib": 1048576}})", Dialect::inox);
    REQUIRE(parsed.problems.empty());
    CHECK(parsed.file.config.machine.windows == PciWindows{1 * GiB, 1024 * GiB});
    CHECK(only_problem(parse_config(R"({"inox": {"pci_window_32_mib": 2050}})", Dialect::inox)) ==
          "config_value /inox/pci_window_32_mib");
    CHECK(only_problem(parse_config(R"({"inox": {"pci_window_32_mib": 0}})", Dialect::inox)) ==
          "config_value /inox/pci_window_32_mib");
    CHECK(only_problem(parse_config(R"({"inox": {"pci_window_64_mib": 3}})", Dialect::inox)) ==
          "config_value /inox/pci_window_64_mib");
    Config config = parsed.file.config;
    config.machine.transport = Transport::mmio;
    const auto problems = check(config);
    CHECK(std::ranges::any_of(problems, [](const Error& one) { return one.where == "/inox"; }));
}

TEST_CASE("a host device needs its address only") {
    const auto parsed = parse(R"({"host": "01:00.0"}, {"host": "0000:02:00.0", "relocate_msix": "auto"})");
    REQUIRE(parsed.problems.empty());
    const auto devices = devices_of<VfioConfig>(parsed.file.config);
    REQUIRE(devices.size() == 2);
    CHECK(devices[0]->open.id == "vfio0");
    CHECK(devices[0]->open.backend == Backend::automatic);
    CHECK(devices[0]->rom);
    CHECK_FALSE(devices[0]->relocate_msix);
    CHECK(devices[1]->open.id == "vfio1");
    CHECK(devices[1]->relocate_msix);
    CHECK_FALSE(devices[1]->msix_bar);
}

TEST_CASE("what is no PCI address, no UUID or the files of the other kernel interface is refused where it stands") {
    for (const std::string host : {"", "1:0.0", "0000:01:00.8", "0000:01:20.0", "000:01:00.0", "0000:01:00.0x",
                                   "0000:01:00", "g000:01:00.0", "/sys/bus/pci/devices/nothing", "eth0"}) {
        INFO(host);
        CHECK(only_problem(parse(R"({"host": ")" + host + "\"}")) == "config_value /vfio/0");
    }
    CHECK(only_problem(parse(R"({"host": "01:00.0", "vf_token": "1234"})")) == "config_value /vfio/0");
    CHECK(only_problem(parse(R"({"host": "01:00.0", "group_fd": 3, "device_fd": 4})")) == "config_value /vfio/0");
    CHECK(only_problem(parse(R"({"host": "01:00.0", "group_fd": 3, "backend": "iommufd"})")) == "config_value /vfio/0");
    CHECK(only_problem(parse(R"({"host": "01:00.0", "device_fd": 3, "backend": "container"})")) ==
          "config_value /vfio/0");
    CHECK(only_problem(parse(R"({"host": "01:00.0", "group_fd": 1})")) == "config_value /vfio/0/group_fd");
    CHECK(only_problem(parse(R"({"host": "01:00.0", "backend": "vfio"})")) == "config_value /vfio/0/backend");
    CHECK(only_problem(parse(R"({"id": "a"})")) == "config_missing_key /vfio/0");
}

TEST_CASE("the same device, or the same id, twice is refused, however the address is written") {
    CHECK(only_problem(parse(R"({"host": "01:00.0"}, {"host": "0000:01:00.0"})")) == "config_value /vfio/1/host");
    CHECK(only_problem(parse(R"({"host": "01:00.0", "id": "a"}, {"host": "02:00.0", "id": "a"})")) ==
          "config_value /vfio");
}

TEST_CASE("a machine without PCI takes no host device") {
    Config config;
    put_device(config, VfioConfig{.open = {.host = "01:00.0"}});
    config.machine.transport = Transport::mmio;
    std::vector<Error> problems;
    Kind<VfioConfig>::check(config, problems);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].code == Errc::config_value);
}

TEST_CASE("Firecracker's device-passthrough is the same list") {
    const auto parsed = parse_config(R"({"vfio": [{"host": "0000:01:00.0"}],
                                         "device-passthrough": [{"id": "nic", "sbdf": "02:00.0"}]})",
                                     Dialect::inox);
    REQUIRE(parsed.problems.empty());
    const auto devices = devices_of<VfioConfig>(parsed.file.config);
    REQUIRE(devices.size() == 2);
    CHECK(std::ranges::any_of(devices,
                              [](const auto* one) { return one->open.id == "nic" && one->open.host == "02:00.0"; }));
    CHECK(parse_config(R"({"device-passthrough": [{"id": "nic"}]})", Dialect::inox).problems.size() >= 1);
}

} // namespace inox::config_vfio_test
