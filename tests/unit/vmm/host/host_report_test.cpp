// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_report.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "tests/catch.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/host_files.hpp"

namespace inox::host_report_test {

namespace fs = std::filesystem;
using State = HostFinding::State;

namespace {

/// A made-up /dev, /proc and /sys.
class Tree {
public:
    Tree() : root_{fs::temp_directory_path() / ("inox-host-" + std::to_string(::getpid()))} {
        fs::create_directories(root_);
    }
    Tree(const Tree&) = delete;
    Tree& operator=(const Tree&) = delete;
    ~Tree() { fs::remove_all(root_); }
    [[nodiscard]] std::string root() const { return root_.string(); }
    void file(const std::string& path, const std::string& text = {}) const {
        fs::create_directories((root_ / path).parent_path());
        std::ofstream{root_ / path} << text;
    }
    void link(const std::string& path, const std::string& target) const {
        fs::create_directories((root_ / path).parent_path());
        fs::create_symlink(target, root_ / path);
    }
    void device(const std::string& group, const std::string& address, const std::string& class_code,
                const std::string& driver) const {
        const std::string directory = "sys/bus/pci/devices/" + address;
        file(directory + "/vendor", "0x8086\n");
        file(directory + "/device", "0x10d3\n");
        file(directory + "/class", class_code + "\n");
        link(directory + "/iommu_group", "../../../../kernel/iommu_groups/" + group);
        link("sys/kernel/iommu_groups/" + group + "/devices/" + address, "../../../../bus/pci/devices/" + address);
        if (!driver.empty())
            link(directory + "/driver", "../../../../bus/pci/drivers/" + driver);
    }

private:
    fs::path root_;
};

const HostFinding& finding(const std::vector<HostFinding>& all, std::string_view subject) {
    const auto found = std::ranges::find(all, subject, [](const auto& one) { return std::string_view{one.subject}; });
    INFO(subject);
    REQUIRE(found != all.end());
    return *found;
}

} // namespace

TEST_CASE("an empty host has every no explained") {
    const Tree tree;
    HostReport report;
    report.kvm = inspect_kvm(tree.root());
    report.iommu = inspect_iommu(tree.root());
    report.memory = inspect_memory(tree.root());
    CHECK_FALSE(report.kvm.present);
    CHECK_FALSE(report.kvm.usable);
    for (const auto& one : host_findings(report)) {
        INFO(one.subject);
        if (one.state == State::no && std::string_view{one.subject} != "transparent")
            CHECK_FALSE(one.todo.empty());
    }
    CHECK(finding(host_findings(report), "/dev/kvm").text == "/dev/kvm does not exist");
    const auto json = nlohmann::json::parse(host_json(report));
    CHECK(json["kvm"]["present"] == false);
    CHECK(json["kvm"]["million_instructions_per_second"].is_null());
    CHECK(json["vfio"]["usable"] == false);
}

TEST_CASE("a file that is no KVM is not usable") {
    const Tree tree;
    tree.file("dev/kvm");
    const auto kvm = inspect_kvm(tree.root());
    CHECK(kvm.present);
    CHECK_FALSE(kvm.usable);
    CHECK_FALSE(kvm.problem.empty());
    CHECK_FALSE(kvm.todo.empty());
}

TEST_CASE("a group is named from /etc/group") {
    const Tree tree;
    tree.file("etc/group", "root:x:0:\nkvm:x:104:alice,bob\nkvmish:x:1040:\n");
    CHECK(host::group_name(tree.root(), 0) == "root");
    CHECK(host::group_name(tree.root(), 104) == "kvm");
    CHECK(host::group_name(tree.root(), 1040) == "kvmish");
    CHECK(host::group_name(tree.root(), 10) == "10");
    tree.file("etc/group", "");
    CHECK(host::group_name(tree.root(), 104) == "104");
    tree.file("etc/group", "broken\nkvm:x");
    CHECK(host::group_name(tree.root(), 104) == "104");
}

TEST_CASE("IOMMU groups have devices with drivers, and reserved regions") {
    const Tree tree;
    tree.device("10", "0000:01:00.0", "0x020000", "e1000e");
    tree.device("9", "0000:00:02.0", "0x010802", "vfio-pci");
    tree.device("9", "0000:00:1c.0", "0x060400", "pcieport");
    tree.device("9", "0000:00:03.0", "0x00ff00", "");
    tree.file("sys/kernel/iommu_groups/10/reserved_regions",
              "0x00000000fee00000 0x00000000feefffff msi\n0x0000000000000000 0x0000000000000fff direct\n");
    const auto report = inspect_iommu(tree.root());
    REQUIRE(report.groups.size() == 2);
    const auto& nine = report.groups[0];
    const auto& ten = report.groups[1];
    CHECK(nine.number == 9);
    CHECK(nine.devices.size() == 3);
    CHECK(nine.in_the_way().empty());
    REQUIRE(ten.in_the_way().size() == 1);
    CHECK(ten.in_the_way()[0]->driver == "e1000e");
    CHECK(ten.devices[0].sysfs.function.id == "8086:10d3");
    CHECK(ten.devices[0].sysfs.function.class_code == 0x020000);
    REQUIRE(ten.reserved.size() == 2);
    CHECK(ten.reserved[0].type == "msi");
    CHECK(ten.reserved[1].last == "0x0000000000000fff");
    HostReport host;
    host.iommu = report;
    CHECK(host_text(host).find("group 10: held by host drivers") != std::string::npos);
    const auto json = nlohmann::json::parse(host_json(host));
    CHECK(json["iommu"]["groups"][0]["viable"] == true);
    const auto& nic = json["iommu"]["groups"][1]["devices"][0];
    CHECK(nic["assignable"] == false);
    CHECK(nic["problems"][0]["code"] == "vfio_missing"); // first the module, then the driver
    CHECK(nic["bind_commands"].get<std::string>().starts_with("echo vfio-pci | sudo tee "));
    CHECK(nic["reset_methods"].empty());
    CHECK(nic["address_bits"].is_null());
}

TEST_CASE("a device that can be assigned is told with what it has, one that cannot with what helps") {
    const Tree tree;
    tree.device("10", "0000:01:00.0", "0x020000", "vfio-pci");
    tree.device("11", "0000:02:00.0", "0x010802", "nvme");
    tree.file("sys/bus/pci/drivers/vfio-pci/bind");
    tree.file("dev/vfio/vfio");
    tree.file("dev/vfio/10");
    tree.file("sys/bus/pci/devices/0000:01:00.0/reset_method", "flr bus\n");
    tree.file("sys/bus/pci/devices/0000:01:00.0/resource", "0xfe000000 0xfe01ffff 0x40200\n0xc000 0xc01f 0x40101\n");
    HostReport host;
    host.iommu = inspect_iommu(tree.root());
    const auto text = host_text(host);
    CHECK(text.find("BARs 128 KiB, 32 bytes of I/O; reset flr, bus\n") != std::string::npos);
    CHECK(text.find("can be assigned: --vfio 0000:01:00.0\n") != std::string::npos);
    CHECK(text.find("not assignable now: 0000:02:00.0 is bound to the driver nvme") != std::string::npos);
    CHECK(text.find("echo vfio-pci | sudo tee /sys/bus/pci/devices/0000:02:00.0/driver_override") != std::string::npos);
    const auto json = nlohmann::json::parse(host_json(host));
    CHECK(json["iommu"]["groups"][0]["devices"][0]["assignable"] == true);
    CHECK(json["iommu"]["groups"][0]["devices"][0]["bars"][0]["size"] == 128 * 1024);
}

TEST_CASE("PASID width comes from the IOMMU's own register") {
    const Tree tree;
    tree.file("sys/class/iommu/dmar0/intel-iommu/ecap", "f020df\n");
    tree.file("sys/class/iommu/dmar1/intel-iommu/ecap", "19800000000\n"); // PASID, PSS 19
    tree.file("sys/class/iommu/ivhd0/amd-iommu/features", "841f77e022094ace:0\n");
    tree.file("sys/class/iommu/ivhd1/amd-iommu/features", "10:25bf732fa2295afe\n");
    tree.file("sys/class/iommu/ivhd2/amd-iommu/features", "25bf732fa2295aee\n"); // no guest translation
    tree.file("sys/class/iommu/virtio0/uevent");
    std::vector<std::string> units;
    for (const auto& unit : inspect_iommu(tree.root()).units)
        units.push_back(unit.name + " " + unit.kind + " " + std::to_string(unit.pasid_bits));
    CHECK(units == std::vector<std::string>{"dmar0 intel 0", "dmar1 intel 20", "ivhd0 amd 0", "ivhd1 amd 16",
                                            "ivhd2 amd 0", "virtio0 virtio 0"});
}

TEST_CASE("PASIDs of assigned devices need nesting in VT-d and a kernel that attaches them") {
    const Tree tree;
    HostReport report;
    report.kernel = "6.15.2-amd64";
    const auto assigned = [&] {
        report.iommu = inspect_iommu(tree.root());
        return finding(host_findings(report), "assigned devices");
    };
    CHECK(assigned().state == State::no);
    tree.file("sys/class/iommu/dmar0/intel-iommu/ecap", "899800f020df\n"); // no nesting
    CHECK(assigned().text.find("no IOMMU unit") != std::string::npos);
    tree.file("sys/class/iommu/dmar0/intel-iommu/ecap", "899804f020df\n");
    CHECK(assigned().text.find("this kernel") != std::string::npos);
    tree.file("dev/iommu");
    CHECK(assigned().state == State::yes);
    CHECK(assigned().text == "guests' page tables nest on dmar0");
    report.kernel = "6.12.0";
    CHECK(assigned().state == State::no);
}

TEST_CASE("VFIO is told apart: absent, no driver, there") {
    const Tree tree;
    HostReport report;
    const auto vfio = [&] {
        report.iommu = inspect_iommu(tree.root());
        return finding(host_findings(report), "VFIO");
    };
    CHECK(vfio().state == State::no);
    tree.file("dev/vfio/vfio");
    CHECK(vfio().state == State::limited);
    CHECK(vfio().todo == "sudo modprobe vfio-pci");
    tree.file("sys/bus/pci/drivers/vfio-pci/bind");
    CHECK(vfio().state == State::yes);
    tree.file("dev/iommu");
    tree.file("dev/vfio/devices/vfio0");
    report.iommu = inspect_iommu(tree.root());
    CHECK(finding(host_findings(report), "iommufd").text == "/dev/iommu, 1 device files");
}

TEST_CASE("memory: huge pages, policy of transparent ones, what is available") {
    const Tree tree;
    tree.file("proc/meminfo", "MemTotal:       24682916 kB\nMemFree:  1 kB\nMemAvailable:   2048 kB\n");
    tree.file("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "64\n");
    tree.file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "60\n");
    tree.file("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    tree.file("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size [advise] never deny force\n");
    HostReport report;
    report.memory = inspect_memory(tree.root());
    CHECK(report.memory.available == 2 * MiB);
    CHECK(report.memory.transparent == "madvise");
    CHECK(report.memory.transparent_shared == "advise");
    const auto findings = host_findings(report);
    CHECK(finding(findings, "2M pages").text == "60 of 64 free");
    CHECK(finding(findings, "transparent").state == State::yes);
    CHECK(finding(findings, "transparent").text == "transparent huge pages: madvise, with --share: advise");
    report.memory.transparent = "never";
    CHECK(finding(host_findings(report), "transparent").state == State::no);
    CHECK(finding(host_findings(report), "transparent").todo.find("echo madvise") != std::string::npos);
}

TEST_CASE("a slow KVM is called an interpreting one") {
    HostReport report;
    report.kvm.present = report.kvm.usable = true;
    report.kvm.million_instructions_per_second = 0.4;
    report.kvm.interpreting = true;
    CHECK(finding(host_findings(report), "speed").state == State::limited);
    report.kvm.million_instructions_per_second = 3000;
    report.kvm.interpreting = false;
    CHECK(finding(host_findings(report), "speed").state == State::yes);
}

TEST_CASE("a missing required capability makes KVM unusable in the report, an optional one does not hide") {
    HostReport report;
    report.kvm.present = true;
    report.kvm.problem = "this KVM lacks IRQFD (x)";
    report.kvm.capabilities = {{"IRQFD", "x", true, 0}, {"X2APIC_API", "y", false, 0}, {"IRQCHIP", "z", true, 1}};
    const auto findings = host_findings(report);
    CHECK(finding(findings, "IRQFD").state == State::no);
    CHECK(finding(findings, "X2APIC_API").state == State::limited);
    CHECK(std::ranges::none_of(findings, [](const auto& one) { return std::string_view{one.subject} == "IRQCHIP"; }));
}

} // namespace inox::host_report_test
