// SPDX-License-Identifier: Apache-2.0
// An opened VFIO device as its PCI function uses it, without a system call in sight: regions, interrupts, reset. Device
// is the kernel's; the tests provide a fake.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "devices/vfio/pci_address.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::vfio {

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

/// Region access may come from any thread; everything else is serialised by the owner.
class HostDevice {
public:
    HostDevice() = default;
    HostDevice(const HostDevice&) = delete;
    HostDevice& operator=(const HostDevice&) = delete;
    virtual ~HostDevice() = default;

    /// "vfio0 (0000:01:00.0)".
    [[nodiscard]] virtual std::string name() const = 0;

    // Regions; `index` < region_count
    [[nodiscard]] virtual const RegionInfo& region(unsigned index) const = 0;
    /// One access of this width. False (and ones read) when the device is gone, the access leaves the region, or the
    /// region cannot do it.
    [[nodiscard]] virtual bool read(unsigned index, std::uint64_t offset, std::span<std::byte> out) const noexcept = 0;
    [[nodiscard]] virtual bool write(unsigned index, std::uint64_t offset,
                                     std::span<const std::byte> in) const noexcept = 0;
    /// Host memory for a part of an area: page aligned. Readable and writable as the region is.
    virtual Result<Mapping> map(unsigned index, RegionArea part) const = 0;

    // Interrupts
    [[nodiscard]] virtual const InterruptInfo& interrupt(Interrupt kind) const = 0;
    /// Vector `start + i` signals fds[i]; -1: allocated, signals nothing. The first call enables the kind with that
    /// many vectors; only one of intx, msi and msix may be on. Later calls change vectors inside the enabled set, and
    /// beyond it where `resizable`.
    virtual Result<void> enable(Interrupt kind, unsigned start, std::span<const int> fds) = 0;
    /// Frees all vectors of the kind.
    virtual Result<void> disable(Interrupt kind) = 0;
    /// Each signal of `fd` unmasks INTx (pair it with the resample descriptor of an IrqLine); -1 ends that.
    virtual Result<void> unmask_intx_on(int fd) = 0;

    // Reset
    /// The function alone can be reset.
    [[nodiscard]] virtual bool can_reset() const = 0;
    /// The kernel resets it by itself when this opens it and when this closes it: nobody else can have it open.
    [[nodiscard]] virtual bool reset_by_opening() const = 0;
    virtual Result<void> reset() = 0;
    /// All functions that a bus reset reaches, this one too. not_found where the kernel offers none.
    virtual Result<std::vector<ResetPeer>> reset_peers() const = 0;
    /// Resets the bus. in_use, naming the function, when one of the peers is not ours.
    virtual Result<void> hot_reset() = 0;
};

} // namespace inox::devices::vfio
