// SPDX-License-Identifier: Apache-2.0
// The virtual command interface without its registers: a command word and its operand, what happens to the guest's
// PASIDs, a response word. Allocation and freeing are as VT-d's (specification 5.10); binding is our own, because VT-d
// has the guest's page tables found by hardware. docs/guest-abi.md tells the guest.
#pragma once

#include <cstdint>

#include "iommu/pasid/pasid_service.hpp"

namespace inox::iommu {

namespace vcmd {
enum class Command : std::uint8_t {
    null = 0,
    allocate = 1,
    free = 2,
    bind = 0xc0,
    unbind = 0xc1,
    invalidate = 0xc2,
};
/// Response bits 7:1.
enum class Response : std::uint8_t {
    success = 0,
    undefined = 1,
    no_pasid = 16, ///< none left, or not one of the guest's
    unknown_endpoint = 17,
    invalid = 18,
    bound = 19,
    unbound = 20,
    failed = 21,
};
/// VCCAP. VT-d has bit 0 for the null command, 1 for allocate, 2 for free; Linux takes bit 0 for allocate. The upper
/// half is ours: bind, unbind, invalidate.
inline constexpr std::uint64_t capabilities = 0x7 | 0x7ULL << 32;

// Operand A, in the command word.
inline constexpr unsigned pasid_shift = 16;    ///< 20 bits
inline constexpr unsigned endpoint_shift = 36; ///< 16 bits: bus, device, function on segment 0
inline constexpr std::uint64_t flag_five_levels = 1ULL << 52;
inline constexpr std::uint64_t flag_privileged = 1ULL << 53;
inline constexpr std::uint64_t flag_write_protect = 1ULL << 54;
inline constexpr std::uint64_t flag_execute_disable = 1ULL << 55;
inline constexpr std::uint64_t bind_reserved = 0xff00'0000'0000'ff00;
inline constexpr std::uint64_t unbind_reserved = 0xfff0'0000'0000'ff00;

// Operand B. bind: address of the page table. invalidate: 0 for everything, or these and an address in 63:12.
inline constexpr std::uint64_t range_given = 1;
inline constexpr unsigned range_order_shift = 1; ///< 6 bits: 2^n pages of 4 KiB, at an address aligned to so many
inline constexpr std::uint64_t range_reserved = 0xf80;

// The response word.
inline constexpr std::uint64_t in_progress = 1;
inline constexpr unsigned status_shift = 1;
inline constexpr unsigned result_shift = 16;
} // namespace vcmd

/// The response word, without in_progress.
[[nodiscard]] std::uint64_t execute_virtual_command(std::uint64_t command, std::uint64_t operand,
                                                    PasidService& service);

} // namespace inox::iommu
