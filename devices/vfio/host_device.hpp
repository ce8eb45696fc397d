// SPDX-License-Identifier: Apache-2.0
// What an assigned device's PCI function needs of the host's VFIO device, without a system call in sight. The kernel's
// implementation is vfio::Device; the tests provide a fake.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/base/os.hpp"

namespace devices::vfio {

/// Region numbers of a PCI device; BARs are 0 to 5.
inline constexpr unsigned region_rom = 6;
inline constexpr unsigned region_config = 7;

/// Part of a region, in bytes from its start.
struct Area {
    std::uint64_t offset{};
    std::uint64_t size{};
    bool operator==(const Area&) const = default;
};

struct RegionInfo {
    std::uint64_t size{}; ///< 0: the device has no such region
    bool readable{};
    bool writable{};
    bool msix_mappable{};         ///< mapping the MSI-X table's page is allowed, too
    std::vector<Area> mappable{}; ///< what map() accepts: the kernel's sparse areas, or the whole region, or nothing
};

enum class IrqIndex : std::uint8_t { intx = 0, msi = 1, msix = 2, error = 3, request = 4 };

struct IrqInfo {
    unsigned count{}; ///< 0: the device has none
    bool resizable{}; ///< vectors can be added while others are enabled (the kernel's NORESIZE is clear)
};

enum class ResetKind : std::uint8_t {
    none,     ///< the device has no reset that would not hit others
    function, ///< of this function alone
    bus,      ///< of a set of functions that all are this process's
};

/// Region access may come from any thread; everything else is serialised by the owner.
class HostDevice {
public:
    HostDevice() = default;
    HostDevice(const HostDevice&) = delete;
    HostDevice& operator=(const HostDevice&) = delete;
    virtual ~HostDevice() = default;

    /// The host's name for it: "0000:01:00.0".
    [[nodiscard]] virtual std::string_view address() const = 0;
    /// A region or interrupt the device lacks is no error: its size or count is 0.
    virtual vmm::Result<RegionInfo> region(unsigned index) = 0;
    virtual vmm::Result<IrqInfo> irq(IrqIndex index) = 0;

    /// One access of the caller's width (1, 2, 4 or 8 bytes reach the device as such; more bytes in any split). False,
    /// with errno, when the host refused or the device is gone; `data` is then unspecified.
    [[nodiscard]] virtual bool read(unsigned region, std::uint64_t offset, std::span<std::byte> data) noexcept = 0;
    [[nodiscard]] virtual bool write(unsigned region, std::uint64_t offset,
                                     std::span<const std::byte> data) noexcept = 0;
    /// Page aligned, inside one of the region's mappable areas.
    virtual vmm::Result<vmm::Mapping> map(unsigned region, Area area, bool writable) = 0;

    /// The device signals these eventfds, vectors `start` and up; -1 leaves a vector silent. The first call enables the
    /// index with as many vectors as it reaches. Only one of INTx, MSI and MSI-X can be enabled.
    virtual vmm::Result<void> set_triggers(IrqIndex index, unsigned start, std::span<const int> eventfds) = 0;
    /// Frees all vectors of the index. Harmless when none is enabled.
    virtual vmm::Result<void> disable(IrqIndex index) = 0;
    /// INTx masks itself at each interrupt. Signalling this eventfd unmasks it; -1 ends that.
    virtual vmm::Result<void> set_intx_unmask(int eventfd) = 0;
    virtual vmm::Result<void> mask_intx(bool masked) = 0;

    /// As after power-on: the function's own reset, else its bus's when every function that hits is held by this
    /// process. Interrupts are disabled before.
    virtual vmm::Result<ResetKind> reset() = 0;
};

} // namespace devices::vfio
