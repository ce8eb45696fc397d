// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/vfio_tree.hpp"

namespace inox::fakes {

VfioTree::VfioTree() {
    static int number = 0;
    root_ = std::filesystem::temp_directory_path() /
            ("inox-vfio-" + std::to_string(::getpid()) + "-" + std::to_string(number++));
    directory("sys/bus/pci/drivers/vfio-pci");
    file("proc/self/status", "CapEff:\t0000000000000000\nVmLck:\t0 kB\nVmPin:\t0 kB\n");
}

void VfioTree::file(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream{root_ / path, std::ios::binary} << text;
}

void VfioTree::link(const std::string& path, const std::string& target) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::filesystem::remove(root_ / path);
    std::filesystem::create_symlink(target, root_ / path);
}

void VfioTree::device(const std::string& address, unsigned group, const std::string& driver,
                      const std::string& class_code) const {
    const auto number = std::to_string(group);
    const auto home = "sys/bus/pci/devices/" + address;
    file(home + "/vendor", "0x1b36\n");
    file(home + "/device", "0x0010\n");
    file(home + "/class", class_code + "\n");
    link(home + "/iommu_group", "../../../../kernel/iommu_groups/" + number);
    set_driver(address, driver);
    link("sys/kernel/iommu_groups/" + number + "/devices/" + address, "../../../../bus/pci/devices/" + address);
    file("sys/kernel/iommu_groups/" + number + "/reserved_regions", "0x00000000fee00000 0x00000000feefffff msi\n");
    file("dev/vfio/vfio");
    if (vfio_drivers.contains(driver))
        file("dev/vfio/" + number);
}

void VfioTree::set_driver(const std::string& address, const std::string& driver) const {
    const auto path = "sys/bus/pci/devices/" + address + "/driver";
    if (driver.empty())
        remove(path);
    else
        link(path, "../../../../bus/pci/drivers/" + driver);
}

void VfioTree::device_file(const std::string& address, const std::string& name) const {
    directory("sys/bus/pci/devices/" + address + "/vfio-dev/" + name);
    file("dev/vfio/devices/" + name);
    file("dev/iommu");
}

} // namespace inox::fakes
