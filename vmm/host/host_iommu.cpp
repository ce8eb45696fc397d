// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>

#include "vmm/base/host_files.hpp"
#include "vmm/host/host_report.hpp"

namespace inox {
namespace {

HostPciDevice read_device(const std::string& root, const std::string& directory, const std::string& name) {
    using namespace devices::vfio;
    HostPciDevice device;
    if (const auto address = PciAddress::parse(name)) {
        device.sysfs = read_sysfs_device(root, *address);
        device.problems = assignment_problems(root, device.sysfs);
    } else { // of another bus: it is in the group, but cannot be assigned
        device.sysfs.function = read_sysfs_function(root, directory, name);
        device.problems.push_back(
            make_error(Errc::unsupported, name + " is not a PCI device", "only PCI devices can be assigned"));
    }
    return device;
}

IommuGroup read_group(const std::string& root, const std::string& number) {
    const auto directory = root + "/sys/kernel/iommu_groups/" + number;
    IommuGroup group;
    group.number = static_cast<unsigned>(std::strtoul(number.c_str(), nullptr, 10));
    for (const auto& name : host::list(directory + "/devices"))
        group.devices.push_back(read_device(root, directory + "/devices/" + name, name));
    const auto words = host::words(host::read_text(directory + "/reserved_regions")); // three a line
    for (std::size_t i = 0; i + 2 < words.size(); i += 3)
        group.reserved.push_back({words[i], words[i + 1], words[i + 2]});
    return group;
}

/// `text` is EFR alone, or EFR and EFR2 with a colon between them, in an order that changed between kernels. Only the
/// larger of the two can be an EFR with PASIDs.
std::uint64_t amd_features(const std::string& text) {
    const auto first = std::strtoull(text.c_str(), nullptr, 16);
    const auto colon = text.find(':');
    return colon == text.npos ? first : std::max(first, std::strtoull(text.c_str() + colon + 1, nullptr, 16));
}

/// A field of five bits that holds one less than the number of PASID bits; 0 when `supported` is not set.
unsigned pasid_bits(std::uint64_t value, unsigned supported, unsigned field) {
    return (value >> supported & 1) != 0 ? static_cast<unsigned>(value >> field & 0x1f) + 1 : 0;
}

/// ECAP: NEST 26, PSS 39:35, PASID 40, scalable mode 43, first stage 47.
IommuUnit intel_unit(const std::string& name, std::uint64_t ecap) {
    constexpr std::uint64_t nested = 1ULL << 26 | 1ULL << 43 | 1ULL << 47;
    return {name, "intel", pasid_bits(ecap, 40, 35), (ecap & nested) == nested};
}

IommuUnit read_unit(const std::string& directory, const std::string& name) {
    if (host::exists(directory + "/intel-iommu")) // ECAP.PASID and ECAP.PSS
        return intel_unit(name, host::read_number(directory + "/intel-iommu/ecap", 16));
    if (host::exists(directory + "/amd-iommu")) // EFR.GTSup and EFR.PASmax
        return {name, "amd", pasid_bits(amd_features(host::read_text(directory + "/amd-iommu/features")), 4, 32)};
    const bool virtio = name.starts_with("virtio") || name.find("viommu") != std::string::npos;
    return {name, virtio ? "virtio" : "other", 0};
}

} // namespace

std::vector<const devices::vfio::SysfsFunction*> IommuGroup::in_the_way() const {
    std::vector<const devices::vfio::SysfsFunction*> found;
    for (const auto& device : devices)
        if (blocks_group(device.sysfs.function))
            found.push_back(&device.sysfs.function);
    return found;
}

IommuReport inspect_iommu(const std::string& root) {
    IommuReport report;
    report.container = host::exists(root + "/dev/vfio/vfio");
    report.container_opens = host::opens(root + "/dev/vfio/vfio");
    report.vfio_pci = host::exists(root + "/sys/bus/pci/drivers/vfio-pci");
    report.iommufd = host::exists(root + "/dev/iommu");
    report.device_files = static_cast<unsigned>(host::list(root + "/dev/vfio/devices").size());
    for (const auto& name : host::list(root + "/sys/class/iommu"))
        report.units.push_back(read_unit(root + "/sys/class/iommu/" + name, name));
    for (const auto& number : host::list(root + "/sys/kernel/iommu_groups"))
        report.groups.push_back(read_group(root, number));
    return report;
}

} // namespace inox
