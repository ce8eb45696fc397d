// SPDX-License-Identifier: Apache-2.0
// A made-up /sys, /proc and /dev of a host with IOMMU groups.
#pragma once

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <unistd.h>

namespace inox::fakes {

class VfioTree {
public:
    VfioTree() {
        static int number = 0;
        root_ = std::filesystem::temp_directory_path() /
                ("inox-vfio-" + std::to_string(::getpid()) + "-" + std::to_string(number++));
        directory("sys/bus/pci/drivers/vfio-pci");
        file("proc/self/status", "CapEff:\t0000000000000000\nVmLck:\t0 kB\nVmPin:\t0 kB\n");
    }
    VfioTree(const VfioTree&) = delete;
    VfioTree& operator=(const VfioTree&) = delete;
    ~VfioTree() { std::filesystem::remove_all(root_); }
    [[nodiscard]] std::string root() const { return root_.string(); }

    void directory(const std::string& path) const { std::filesystem::create_directories(root_ / path); }
    void file(const std::string& path, const std::string& text = {}) const {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::ofstream{root_ / path, std::ios::binary} << text;
    }
    void link(const std::string& path, const std::string& target) const {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::filesystem::remove(root_ / path);
        std::filesystem::create_symlink(target, root_ / path);
    }
    void remove(const std::string& path) const { std::filesystem::remove_all(root_ / path); }

    std::set<std::string> vfio_drivers{"vfio-pci", "mlx5_vfio_pci"}; ///< those that offer devices by VFIO
    /// From Linux 6.1 on there is a class of VFIO's devices, and each stands below that of the bus.
    void with_vfio_class() const { directory("sys/class/vfio-dev"); }

    /// A function in its group, with the driver's link; `driver` may be empty. The group has a file when one of its
    /// drivers is VFIO's.
    void device(const std::string& address, unsigned group, const std::string& driver,
                const std::string& class_code = "0x010802") const {
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
    void set_driver(const std::string& address, const std::string& driver) const {
        const auto path = "sys/bus/pci/devices/" + address + "/driver";
        if (driver.empty())
            remove(path);
        else
            link(path, "../../../../bus/pci/drivers/" + driver);
    }
    /// The device's own file, and iommufd's.
    void device_file(const std::string& address, const std::string& name) const {
        directory("sys/bus/pci/devices/" + address + "/vfio-dev/" + name);
        file("dev/vfio/devices/" + name);
        file("dev/iommu");
    }

private:
    std::filesystem::path root_;
};

} // namespace inox::fakes
