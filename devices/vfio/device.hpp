// SPDX-License-Identifier: Apache-2.0
// One opened VFIO device, whatever kernel interface it came by: regions, interrupts, reset, and its DMA address space.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/vfio/kernel.hpp"
#include "devices/vfio/pci_address.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/os.hpp"

namespace devices::vfio {

class AddressSpace;
class Session;

/// Kernel interface for assignment.
enum class Backend : std::uint8_t {
    automatic, ///< iommufd where host and device have it, else the container
    container, ///< /dev/vfio/vfio and a group
    iommufd,   ///< /dev/iommu and the device's own file
};
const char* backend_name(Backend backend);

/// Descriptors that a launcher opened; -1: inox opens the file itself. inox makes them close-on-exec and owns the
/// device's; the others stay open until inox ends.
struct OpenFiles {
    int container{-1};
    int group{-1};
    int iommufd{-1};
    int device{-1};
    bool operator==(const OpenFiles&) const = default;
};

struct OpenOptions {
    std::string id{};   ///< names the device in messages
    std::string host{}; ///< "0000:01:00.0", "01:00.0", or its directory in sysfs
    Backend backend{Backend::automatic};
    OpenFiles files{};
    std::string vf_token{}; ///< UUID shared with the owner of the physical function; empty for none
};

/// Indices of regions of a PCI device. BARs are 0 to 5.
inline constexpr unsigned region_rom = 6;
inline constexpr unsigned region_config = 7;
inline constexpr unsigned region_count = 8; ///< VGA is not used

struct RegionArea {
    std::uint64_t offset{}; ///< into the region
    std::uint64_t size{};
    bool operator==(const RegionArea&) const = default;
};

struct RegionInfo {
    std::uint64_t size{};        ///< 0: the device has no such region
    std::uint64_t file_offset{}; ///< of its first byte, in the device's file
    bool readable{};
    bool writable{};
    bool msix_mappable{};            ///< areas may cover the MSI-X table
    std::vector<RegionArea> areas{}; ///< what may be mapped; page aligned, ordered, empty for none
};

enum class Interrupt : std::uint8_t { intx, msi, msix, error, request };
inline constexpr unsigned interrupt_count = 5;

struct InterruptInfo {
    unsigned count{}; ///< 0: the device has none of this kind
    bool maskable{};
    bool automasked{}; ///< masked by the host at each interrupt
    bool resizable{};  ///< single vectors can be added while others are live
};

/// A function that a reset of the bus would reset too.
struct ResetPeer {
    PciAddress address;
    bool owned{}; ///< held by this process, so that it may be reset
};

/// Region access may come from any thread; everything else is called on the loop.
class Device {
public:
    /// Opens, reads what it offers, and gives it an address space in which nothing is mapped. The session outlives the
    /// device. Errors: config_value (no PCI address), not_found, in_use, and the vfio_ and iommu_ codes, each with the
    /// command that helps.
    static vmm::Result<std::unique_ptr<Device>> open(Session& session, const OpenOptions& options);
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    /// Interrupts off, detached, closed: free for the next user at once.
    ~Device();

    [[nodiscard]] const std::string& id() const { return options_.id; }
    [[nodiscard]] const PciAddress& address() const { return address_; }
    /// "vfio0 (0000:01:00.0)".
    [[nodiscard]] std::string name() const;
    /// container or iommufd.
    [[nodiscard]] Backend backend() const { return backend_; }
    [[nodiscard]] unsigned group() const { return group_; }
    /// As iommufd numbers it, 0 for the container.
    [[nodiscard]] std::uint32_t iommufd_id() const { return iommufd_id_; }
    [[nodiscard]] int fd() const { return fd_.get(); }
    /// Devices of one group share theirs.
    [[nodiscard]] AddressSpace& dma() { return *dma_; }
    [[nodiscard]] const AddressSpace& dma() const { return *dma_; }

    // ---- regions; `index` < region_count
    [[nodiscard]] const RegionInfo& region(unsigned index) const { return regions_.at(index); }
    /// One access of this width. False (and ones read) when the device is gone, the access leaves the region, or the
    /// region cannot do it.
    [[nodiscard]] bool read(unsigned index, std::uint64_t offset, std::span<std::byte> out) const noexcept;
    [[nodiscard]] bool write(unsigned index, std::uint64_t offset, std::span<const std::byte> in) const noexcept;
    /// Host memory for a part of an area: page aligned. Readable and writable as the region is.
    vmm::Result<vmm::Mapping> map(unsigned index, RegionArea part) const;

    // ---- interrupts
    [[nodiscard]] const InterruptInfo& interrupt(Interrupt kind) const {
        return interrupts_.at(static_cast<std::size_t>(kind));
    }
    /// Vector `start + i` signals fds[i]; -1: allocated, signals nothing. The first call enables the kind with that
    /// many vectors; only one of intx, msi and msix may be on. Later calls change vectors inside the enabled set, and
    /// beyond it where `resizable`.
    vmm::Result<void> enable(Interrupt kind, unsigned start, std::span<const int> fds);
    /// Frees all vectors of the kind.
    vmm::Result<void> disable(Interrupt kind);
    /// Signals the vectors as the device would: a loopback test.
    vmm::Result<void> trigger(Interrupt kind, unsigned start, unsigned count);
    vmm::Result<void> mask_intx();
    vmm::Result<void> unmask_intx();
    /// Each signal of `fd` unmasks INTx (pair it with the resample descriptor of an IrqLine); -1 ends that.
    vmm::Result<void> unmask_intx_on(int fd);

    // ---- reset
    /// The function alone can be reset.
    [[nodiscard]] bool can_reset() const { return can_reset_; }
    vmm::Result<void> reset();
    /// All functions that a bus reset reaches, this one too. not_found where the kernel offers none.
    vmm::Result<std::vector<ResetPeer>> reset_peers() const;
    /// Resets the bus. in_use, naming the function, when one of the peers is not ours.
    vmm::Result<void> hot_reset();

private:
    friend class DeviceOpener;
    Device(Session& session, OpenOptions options, PciAddress address);
    vmm::Result<void> read_info();
    vmm::Result<void> read_regions();
    vmm::Result<void> read_interrupts(unsigned count);
    vmm::Result<void> set_irqs(Interrupt kind, std::uint32_t flags, unsigned start, unsigned count,
                               std::span<const int> fds, const char* what);

    Session& session_;
    Kernel& kernel_;
    OpenOptions options_;
    PciAddress address_;
    Backend backend_{Backend::container};
    unsigned group_{};
    std::uint32_t iommufd_id_{};
    bool can_reset_{};
    std::array<RegionInfo, region_count> regions_{};
    std::array<InterruptInfo, interrupt_count> interrupts_{};
    std::array<bool, interrupt_count> enabled_{};

    // In order of dependence.
    std::shared_ptr<AddressSpace> dma_;
    vmm::Registration kvm_; ///< KVM knows of the device file
    vmm::UniqueFd fd_;
};

} // namespace devices::vfio
