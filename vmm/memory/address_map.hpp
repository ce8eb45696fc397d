// SPDX-License-Identifier: Apache-2.0
// Where RAM and PCI's windows lie: by the guest's size, the width of the CPU's addresses, and what the operator wants.
#pragma once

#include <cstdint>
#include <optional>

#include "vmm/base/address.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/range.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {

/// Sizes of the windows for BARs, in bytes; nullopt: inox chooses.
struct PciWindows {
    static constexpr std::uint64_t unit = 2 * MiB; ///< both are multiples of it
    static constexpr std::uint64_t most_32 = 2 * GiB;
    static constexpr std::uint64_t most_64 = std::uint64_t{1} << 52;
    std::optional<std::uint64_t> bars_32{}; ///< `unit` to `most_32`
    std::optional<std::uint64_t> bars_64{}; ///< `unit` to `most_64`
    bool operator==(const PciWindows&) const = default;
};

struct AddressMap {
    Gpa hole{layout::hole.start()}; ///< RAM below 4 GiB ends before it
    Range<Gpa> bars_32{layout::pci_bars_32};
    std::optional<Range<Gpa>> bars_64{layout::pci_bars_64}; ///< none where the CPU's addresses end with RAM
};

/// `memory`: bytes of RAM. `address_bits`: of the guest's physical addresses. Without a wish the 64-bit window begins
/// at 256 GiB, or at a quarter of a smaller CPU's space, or above RAM, and reaches to the end of the CPU's addresses.
/// memory_invalid when RAM does not fit the CPU, no_resource when the wanted 64-bit window does not.
Result<AddressMap> plan_addresses(std::uint64_t memory, unsigned address_bits, const PciWindows& wanted);

/// CPUID leaf whose EAX has the widths of addresses.
inline constexpr std::uint32_t address_leaf = 0x80000008;
/// Its EAX on the CPU this runs on; 0: there is no such leaf.
std::uint32_t host_address_leaf();
/// Bits of guest physical addresses that can be used, of that EAX. A host
/// with four levels of page tables maps no more than 48, and says so only where its kernel is new enough.
unsigned usable_address_bits(std::uint32_t eax);
/// The same for the CPU this runs on.
unsigned host_address_bits();

} // namespace inox
