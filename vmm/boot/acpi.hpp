// SPDX-License-Identifier: Apache-2.0
// Hardware-reduced ACPI 6 tables: RSDP, XSDT, FADT, MADT, MCFG, VIOT, DSDT.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/memory/guest_memory.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot {

/// A virtio-mmio device announced through ACPI.
struct AcpiMmioDevice {
    Range<Gpa> registers;
    unsigned gsi;
};

struct AcpiConfig {
    unsigned cpus{1};
    bool pci{true}; ///< host bridge and MCFG
    Range<Gpa> bars_32{layout::pci_bars_32};
    std::optional<Range<Gpa>> bars_64{layout::pci_bars_64};
    bool pasids{false}; ///< the virtual command interface
    std::vector<AcpiMmioDevice> virtio_mmio{};
    /// Bus, slot and function of a virtio-iommu with all other functions of the segment behind it: bus << 8 | slot << 3
    /// | function.
    std::optional<std::uint16_t> iommu{};
};

/// Writes all tables into layout::acpi_tables and returns the address of the RSDP, which is that range's start.
Result<Gpa> write_acpi_tables(const AcpiConfig& config, const GuestMemory& memory);

} // namespace inox::boot
