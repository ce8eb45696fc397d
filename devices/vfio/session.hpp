// SPDX-License-Identifier: Apache-2.0
// What the assigned devices of one machine share: iommufd, containers by group, guest RAM and each other's BARs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "devices/vfio/dma/pin_job.hpp"
#include "devices/vfio/dma/resources.hpp"
#include "devices/vfio/options.hpp"
#include "devices/vfio/pci_address.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/range.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::devices::vfio {

class AddressSpace;
class Kernel;
struct Opened;

/// What the machine does for a session.
struct SessionHooks {
    /// Tells KVM of a group's or device's file before the device opens; the registration takes it back.
    std::function<Result<Registration>(int fd)> add_to_kvm{};
    /// While RAM is made ready for DMA, which takes long on large guests: bytes done, of how many. Any thread.
    /// Empty: a line in the log, once a second.
    std::function<void(std::uint64_t done, std::uint64_t total)> progress{};
    /// The host refused devices a BAR of another one for the first time; tell_unreachable() is due when others had
    /// their turn.
    std::function<void()> on_unreachable{};
};

/// One thread at a time calls it, and ends its devices. One process owns the mappings: a child must not use them.
/// Devices end before their session.
class Session {
public:
    /// `root` is put before every path of /sys, /proc and /dev; tests give a made-up tree. `limit`: the process's own.
    explicit Session(SessionHooks hooks = {}, Kernel& kernel = host_kernel(), std::string root = {},
                     std::optional<LockLimit> limit = {});
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    [[nodiscard]] Kernel& kernel() const { return kernel_; }
    [[nodiscard]] const std::string& root() const { return root_; }
    /// Opens the files, and attaches an address space in which nothing is mapped. See Device::open().
    Result<Opened> open(const OpenOptions& options);
    /// The open file of a group that is in a container of ours.
    [[nodiscard]] std::optional<int> group_file(unsigned group) const;

    /// Memory that may be mapped for DMA. RAM and BARs get here by the calls below.
    [[nodiscard]] iommu::RegisteredMemory& memory() { return resources_.memory; }

    // Guest RAM
    /// Registers RAM and maps it in every address space that is 1:1. All or nothing.
    Result<void> add_ram(const RamRegion& region);

    // 1:1 address spaces: a device's addresses are the guest's
    /// Maps all RAM, one call to the kernel per region, and the shared BARs. From then on both stay up to date. Nothing
    /// happens when it is 1:1 already. reserved_conflict when RAM lies where the group may not map; no_resource, with
    /// the number needed, when the host lets us lock or map too little. Nothing is mapped after an error.
    Result<void> map_guest(AddressSpace& space);
    /// map_guest() for a machine that runs: what pins memory is PinJob::run(), which can be stopped; then comes
    /// end_map_guest(). Until then nobody else may change the address space, or open a device of its group. Null: it is
    /// 1:1 already.
    Result<std::unique_ptr<PinJob>> begin_map_guest(AddressSpace& space, std::uint64_t piece = PinJob::usual_piece);
    /// After run(), or instead of it. After an error, or a stop, nothing is mapped.
    Result<void> end_map_guest(PinJob& job);

    /// Peer-to-peer: all devices that are 1:1 reach these bytes of a BAR at `range`, until the registration dies.
    /// Not every host can: tell_unreachable().
    Registration share_bar(Range<Gpa> range, std::span<std::byte> host, const std::string& name);
    /// One warning for all that peers could not reach so far; each by itself is a line of level info. Once: then
    /// nothing.
    void tell_unreachable();

private:
    static Kernel& host_kernel();
    class Opener;
    struct SharedBar {
        std::uint64_t number;
        Range<Iova> range;
        std::span<std::byte> host;
        std::string name;
        std::set<AddressSpace*> mapped_in{};
    };
    [[nodiscard]] Result<void> check_ram(const AddressSpace& space, const RamRegion& region) const;
    [[nodiscard]] Result<void> map_all_ram(AddressSpace& space);
    /// RAM that is to be pinned in one go is put into huge pages first: pinned, it could not move any more.
    void gather(std::span<std::byte> host);
    void use_one_to_one(AddressSpace& space);
    [[nodiscard]] std::uint64_t ram_size() const;
    void map_bar(AddressSpace& space, SharedBar& bar);
    void unshare_bar(std::uint64_t number);
    struct GroupSpace {
        std::weak_ptr<AddressSpace> space;
        Backend backend;
    };
    /// Finds it by the group from now on, and forget()s it with its last device.
    [[nodiscard]] std::shared_ptr<AddressSpace> add_space(unsigned group, std::shared_ptr<AddressSpace> space,
                                                          Backend backend);
    void forget(AddressSpace& space);

    SessionHooks hooks_;
    Kernel& kernel_;
    std::string root_;
    DmaResources resources_;
    std::vector<RamRegion> ram_{};
    PinProgress* progress_{}; ///< while all RAM is mapped
    std::vector<SharedBar> bars_{};
    std::uint64_t next_bar_{};
    struct Unreachable {
        std::size_t count{};
        std::string first{};
        bool told{};
    };
    Unreachable unreachable_{};
    std::set<AddressSpace*> one_to_one_{};
    std::weak_ptr<UniqueFd> iommufd_{};           ///< open while any address space is
    std::map<unsigned, GroupSpace> spaces_{};     ///< by group
    std::map<PciAddress, std::string> devices_{}; ///< opened ones and their ids
};

} // namespace inox::devices::vfio
