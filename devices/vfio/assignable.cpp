// SPDX-License-Identifier: Apache-2.0
// What prevents assigning a device, as far as this shows without opening it.
#include <algorithm>
#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/vfio/sysfs.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/host_files.hpp"

namespace inox::devices::vfio {
namespace {

namespace host = host;

class Check {
public:
    Check(const std::string& root, const SysfsDevice& device, const OpenOptions& options)
        : root_{root}, device_{device}, given_{options.files}, backend_{choose_backend(root, device, options)} {}

    std::vector<Error> run() {
        if (!device_.exists) {
            add(Errc::not_found, "there is no PCI device " + name() + " on this host", "`inox host` lists the devices");
            return std::move(problems_);
        }
        if (constexpr std::uint32_t pci_bridge = 0x0604; device_.function.class_code >> 8 == pci_bridge) {
            add(Errc::unsupported, name() + " is a bridge", "assign the devices behind it");
            return std::move(problems_);
        }
        check_iommu(); // first: without an IOMMU no driver helps
        check_driver();
        check_members();
        check_firmware_regions();
        if (backend_ == Backend::iommufd)
            check_device_files();
        else
            check_group_files();
        return std::move(problems_);
    }

private:
    [[nodiscard]] const std::string& name() const { return device_.function.address; }
    void add(Errc code, std::string what, std::string hint, int error = 0) {
        problems_.push_back({code, std::move(what), std::move(hint), {}, error});
    }

    void check_driver() {
        const auto& driver = device_.function.driver;
        if (device_.function.offered || group_offered())
            return;
        if (!host::exists(root_ + "/sys/bus/pci/drivers/vfio-pci"))
            return add(Errc::vfio_missing, "the driver vfio-pci, which " + name() + " needs, is not loaded",
                       "sudo modprobe vfio-pci");
        add(Errc::vfio_driver,
            name() + (driver.empty() ? std::string{" is bound to no driver"} : " is bound to the driver " + driver) +
                (driver == "vfio-pci" ? ", which does not offer it by VFIO" : ", not to vfio-pci"),
            bind_commands(device_.function));
    }

    /// Before Linux 6.1 a group's file exists when a driver, whatever its name, offers one of the group's devices. Only
    /// opening the group shows whether it is this device.
    [[nodiscard]] bool group_offered() const {
        return !device_.function.driver.empty() && device_.group && !host::exists(root_ + "/sys/class/vfio-dev") &&
               host::exists(root_ + "/dev/vfio/" + std::to_string(*device_.group));
    }

    void check_iommu() {
        if (device_.no_iommu)
            return add(Errc::iommu_missing,
                       name() + " is in VFIO's mode without an IOMMU: it could reach all of the host's memory",
                       "turn VT-d or AMD-Vi on in the firmware, and enable_unsafe_noiommu_mode off");
        // Some kernels put a device into its group only when the first driver is bound.
        const bool bound = !device_.function.driver.empty();
        // A kernel with IOMMUFD_TEST lists an IOMMU of its own, which no real device uses.
        const auto units = host::list(root_ + "/sys/class/iommu");
        const bool none =
            std::ranges::all_of(units, [](const auto& unit) { return unit.starts_with("iommufd_selftest"); });
        if (!device_.group && (bound || none))
            add(Errc::iommu_missing, "there is no IOMMU between " + name() + " and memory",
                "turn VT-d or AMD-Vi on in the firmware; on Intel boot the host with intel_iommu=on");
    }

    void check_members() {
        for (const auto& member : device_.members)
            if (member.address != name() && blocks_group(member))
                add(Errc::vfio_group,
                    format("IOMMU group %u of %s cannot be assigned: %s of the same group is used by the driver %s",
                           device_.group.value_or(0), name().c_str(), member.address.c_str(), member.driver.c_str()),
                    bind_commands(member));
    }

    void check_firmware_regions() {
        for (const auto& region : device_.reserved)
            if (region.kind == iommu::ReservedKind::direct && !region.relaxable)
                return add(Errc::reserved_conflict,
                           format("the firmware uses memory at 0x%llx through %s, so the host keeps the device",
                                  hex(region.range.start()), name().c_str()),
                           "look in the firmware's settings for what uses the device (an RMRR of VT-d)");
    }

    void check_file(const std::string& path, const std::string& missing_hint) {
        if (::access((root_ + path).c_str(), R_OK | W_OK) == 0)
            return;
        const int error = errno;
        if (error == ENOENT || error == ENOTDIR)
            return add(Errc::vfio_missing, path + " does not exist", missing_hint);
        add(Errc::vfio_denied, path + " may not be opened by this user", "sudo chown $USER " + path, error);
    }

    void check_group_files() {
        if (given_.container < 0)
            check_file("/dev/vfio/vfio", "sudo modprobe vfio-pci vfio_iommu_type1");
        if (given_.group < 0 && problems_.empty() && device_.group)
            check_file("/dev/vfio/" + std::to_string(*device_.group), bind_commands(device_.function));
    }

    void check_device_files() {
        if (given_.iommufd < 0)
            check_file("/dev/iommu", "use the container backend, or a host kernel with iommufd (Linux 6.6)");
        if (given_.device >= 0 || !problems_.empty())
            return;
        if (device_.device_file.empty())
            return add(Errc::vfio_missing, "this host's kernel offers no device file for " + name(),
                       "use the container backend, or a host kernel with VFIO_DEVICE_CDEV (Linux 6.6)");
        check_file(device_.device_file,
                   "use the container backend, or a host kernel with VFIO_DEVICE_CDEV (Linux 6.6)");
    }

    const std::string& root_;
    const SysfsDevice& device_;
    const OpenFiles& given_;
    Backend backend_;
    std::vector<Error> problems_{};
};

} // namespace

const char* backend_name(Backend backend) {
    switch (backend) {
    case Backend::container:
        return "container";
    case Backend::iommufd:
        return "iommufd";
    case Backend::automatic:
        break;
    }
    return "auto";
}

Backend choose_backend(const std::string& root, const SysfsDevice& device, const OpenOptions& options) {
    const auto& given = options.files;
    if (options.backend != Backend::automatic)
        return options.backend;
    if (given.container >= 0 || given.group >= 0)
        return Backend::container;
    if (given.iommufd >= 0 || given.device >= 0)
        return Backend::iommufd;
    const auto usable = [](const std::string& path) { return ::access(path.c_str(), R_OK | W_OK) == 0; };
    if (options.p2p && device.group && usable(root + "/dev/vfio/vfio") &&
        usable(root + "/dev/vfio/" + std::to_string(*device.group)))
        return Backend::container;
    return !device.device_file.empty() && usable(root + "/dev/iommu") && usable(root + device.device_file)
               ? Backend::iommufd
               : Backend::container;
}

std::vector<Error> assignment_problems(const std::string& root, const SysfsDevice& device, const OpenOptions& options) {
    return Check{root, device, options}.run();
}

} // namespace inox::devices::vfio
