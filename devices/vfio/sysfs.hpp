// SPDX-License-Identifier: Apache-2.0
// What the host says about a PCI device before anybody opens it, and what stands in the way of assigning it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/vfio/options.hpp"
#include "devices/vfio/pci_address.hpp"
#include "iommu/dma_mapper.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/range.hpp"

namespace inox::devices::vfio {

struct SysfsFunction {
    std::string address{}; ///< as sysfs spells it
    std::string id{};      ///< "8086:10d3"
    std::uint32_t class_code{};
    std::string driver{}; ///< empty for none
    bool offered{};       ///< user space can have it by VFIO: its driver, whatever its name, has told the kernel so
};
/// Whether its driver keeps the whole group from being assigned. Those that offer it by VFIO, stubs, and the drivers of
/// bridges do not.
bool blocks_group(const SysfsFunction& function);

struct SysfsBar {
    static constexpr unsigned rom = 6;

    unsigned index{}; ///< 0 to 5, or rom
    std::uint64_t size{};
    bool io{};
    bool wide{}; ///< 64 bits
    bool prefetchable{};
};

/// A line of /sys/kernel/iommu_groups/N/reserved_regions.
struct ReservedLine {
    Range<Iova> range;
    iommu::ReservedKind kind;
    bool relaxable{}; ///< firmware had it mapped 1:1, but the kernel lets go of that for assignment
};
/// Lines that cannot be read are skipped; unknown types count as reserved.
std::vector<ReservedLine> parse_reserved(std::string_view text);

struct SysfsDevice {
    SysfsFunction function{};
    bool exists{};
    std::optional<unsigned> group{};
    bool no_iommu{};                      ///< a group that VFIO made up: nothing isolates the device
    std::vector<SysfsFunction> members{}; ///< of the group, with this one
    std::vector<ReservedLine> reserved{}; ///< of the group
    std::vector<std::string> resets{};    ///< the kernel's names, best first: "flr", "pm", "bus"
    std::vector<SysfsBar> bars{};
    unsigned msi_vectors{};
    unsigned msix_vectors{};
    std::string iommu{};       ///< name of its IOMMU unit
    unsigned address_bits{};   ///< of DMA addresses that unit takes; 0: it does not say
    std::string device_file{}; ///< "/dev/vfio/devices/vfio0"; empty when the kernel has none
};

/// `root` is put before every path but `directory`, which has it.
SysfsFunction read_sysfs_function(const std::string& root, const std::string& directory, std::string address);
SysfsDevice read_sysfs_device(const std::string& root, const PciAddress& address);

/// The two commands that hand a function to vfio-pci.
std::string bind_commands(const SysfsFunction& function);

/// container or iommufd: what a device opens with.
Backend choose_backend(const std::string& root, const SysfsDevice& device, const OpenOptions& options);

/// Everything that keeps the device from being assigned, gravest first, each with what helps. Empty: nothing that can
/// be seen without opening it.
std::vector<Error> assignment_problems(const std::string& root, const SysfsDevice& device,
                                       const OpenOptions& options = {});
/// Why the kernel cannot reset the bus of this device, as far as the host tells; a clause that ends a sentence.
/// `reached`: the functions behind the bus.
std::string bus_reset_obstacle(const std::string& root, const PciAddress& address, std::span<const PciAddress> reached);

} // namespace inox::devices::vfio
