// SPDX-License-Identifier: Apache-2.0
// What the assigned devices of one machine share: iommufd, containers by group, guest RAM and each other's BARs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "devices/vfio/address_space.hpp"
#include "devices/vfio/kernel.hpp"
#include "devices/vfio/pci_address.hpp"
#include "iommu/registered_memory.hpp"
#include "vmm/base/os.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace devices::vfio {

class Container;
class Device;

/// What the machine does for a session.
struct SessionHooks {
    /// Tells KVM of a group's or device's file before the device opens; the registration takes it back.
    std::function<vmm::Result<vmm::Registration>(int fd)> add_to_kvm{};
    /// Work on guest RAM that takes long: bytes of RAM ready for DMA, of how many.
    std::function<void(std::uint64_t done, std::uint64_t total)> progress{};
};

/// Everything is called on the loop. One process owns the mappings: a child must not use them.
class Session {
public:
    /// `root` is put before every path of /sys and /dev; tests give a made-up tree.
    explicit Session(SessionHooks hooks = {}, Kernel& kernel = Kernel::host(), std::string root = {});
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    /// Memory that may be mapped for DMA. RAM and BARs get here by the calls below.
    [[nodiscard]] iommu::RegisteredMemory& memory() { return memory_; }
    [[nodiscard]] Kernel& kernel() const { return kernel_; }
    [[nodiscard]] const std::string& root() const { return root_; }

    // ---- guest RAM
    /// Registers RAM and maps it in every address space that is 1:1. All or nothing.
    vmm::Result<void> add_ram(const vmm::RamRegion& region);
    /// in_use while the guest's own mappings refer to it; nothing changed then.
    vmm::Result<void> remove_ram(vmm::Range<vmm::Gpa> range);

    // ---- 1:1 address spaces: a device's addresses are the guest's
    /// Maps all RAM, one call to the kernel per region, and the shared BARs. From then on both stay up to date. Nothing
    /// happens when it is 1:1 already. reserved_region when RAM lies where the group may not map.
    vmm::Result<void> map_guest(AddressSpace& space);
    /// The address space is empty afterwards.
    vmm::Result<void> unmap_guest(AddressSpace& space);

    /// Peer-to-peer: other assigned devices that are 1:1 reach these bytes of a BAR at `range`. Failure is a warning.
    vmm::Registration share_bar(vmm::Range<vmm::Gpa> range, std::span<std::byte> host, const std::string& name);

private:
    friend class Device;
    friend class DeviceOpener;
    struct SharedBar {
        std::uint64_t number;
        vmm::Range<vmm::Gpa> range;
        std::span<std::byte> host;
        std::string name;
    };
    void map_bar(AddressSpace& space, const SharedBar& bar);
    void unshare_bar(std::uint64_t number);

    SessionHooks hooks_;
    Kernel& kernel_;
    std::string root_;
    iommu::RegisteredMemory memory_{};
    std::vector<vmm::RamRegion> ram_{};
    std::vector<SharedBar> bars_{};
    std::uint64_t next_bar_{};
    std::set<AddressSpace*> one_to_one_{};
    vmm::UniqueFd iommufd_{};
    std::map<unsigned, std::weak_ptr<AddressSpace>> spaces_{}; ///< by group
    std::map<PciAddress, std::string> devices_{};              ///< opened ones and their ids
};

} // namespace devices::vfio
