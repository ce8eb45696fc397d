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
    VfioTree();
    VfioTree(const VfioTree&) = delete;
    VfioTree& operator=(const VfioTree&) = delete;
    ~VfioTree() { std::filesystem::remove_all(root_); }
    [[nodiscard]] std::string root() const { return root_.string(); }

    void directory(const std::string& path) const { std::filesystem::create_directories(root_ / path); }
    void file(const std::string& path, const std::string& text = {}) const;
    void link(const std::string& path, const std::string& target) const;
    void remove(const std::string& path) const { std::filesystem::remove_all(root_ / path); }

    std::set<std::string> vfio_drivers{"vfio-pci", "mlx5_vfio_pci"}; ///< those that offer devices by VFIO
    /// From Linux 6.1 on there is a class of VFIO's devices, and each stands below that of the bus.
    void with_vfio_class() const { directory("sys/class/vfio-dev"); }

    /// A function in its group, with the driver's link; `driver` may be empty. The group has a file when one of its
    /// drivers is VFIO's.
    void device(const std::string& address, unsigned group, const std::string& driver,
                const std::string& class_code = "0x010802") const;
    void set_driver(const std::string& address, const std::string& driver) const;
    /// The device's own file, and iommufd's.
    void device_file(const std::string& address, const std::string& name) const;

private:
    std::filesystem::path root_;
};

} // namespace inox::fakes
