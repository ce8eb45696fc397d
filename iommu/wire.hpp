// SPDX-License-Identifier: Apache-2.0
// virtio-iommu as bytes (virtio 1.3, 5.13). request.cpp asserts the layouts against the kernel's header.
#pragma once

#include <array>
#include <cstdint>

#include "vmm/base/bytes.hpp"

namespace inox::iommu {

/// What the guest is answered (5.13.6.1).
enum class Status : std::uint8_t {
    ok = 0,
    io_error = 1,
    unsupported = 2,
    device_error = 3,
    invalid = 4,
    range = 5,
    no_entry = 6,
    fault = 7,
    no_memory = 8,
};

namespace wire {

namespace feature {
inline constexpr std::uint64_t input_range = 1 << 0;
inline constexpr std::uint64_t domain_range = 1 << 1;
inline constexpr std::uint64_t map_unmap = 1 << 2;
inline constexpr std::uint64_t probe = 1 << 4;
inline constexpr std::uint64_t mmio = 1 << 5;
inline constexpr std::uint64_t bypass_config = 1 << 6;
/// Not of the standard: request types from first_private_type up. No draft uses this bit.
inline constexpr std::uint64_t private_requests = 1 << 22;
} // namespace feature

enum class Type : std::uint8_t { attach = 1, detach = 2, map = 3, unmap = 4, probe = 5 };
/// From here on a RequestExtension answers.
inline constexpr std::uint8_t first_private_type = 0x80;

inline constexpr std::uint32_t attach_bypass = 1;
inline constexpr std::uint32_t map_read = 1;
inline constexpr std::uint32_t map_write = 2;
inline constexpr std::uint32_t map_mmio = 4;

struct Config {
    Le64 page_size_mask{};
    Le64 input_start{};
    Le64 input_last{};
    Le32 domain_first{};
    Le32 domain_last{};
    Le32 probe_size{};
    std::uint8_t bypass{}; ///< the only field the driver may write
    std::array<std::uint8_t, 3> reserved{};
};

struct Head {
    std::uint8_t type{};
    std::array<std::uint8_t, 3> reserved{};
};
struct Tail {
    std::uint8_t status{};
    std::array<std::uint8_t, 3> reserved{};
};

// What the device reads of each request; the rest is for it to write.
struct Attach {
    Head head{};
    Le32 domain{};
    Le32 endpoint{};
    Le32 flags{};
    Le32 reserved{};
};
struct Detach {
    Head head{};
    Le32 domain{};
    Le32 endpoint{};
    Le64 reserved{};
};
struct Map {
    Head head{};
    Le32 domain{};
    Le64 virt_start{};
    Le64 virt_last{};
    Le64 phys_start{};
    Le32 flags{};
};
struct Unmap {
    Head head{};
    Le32 domain{};
    Le64 virt_start{};
    Le64 virt_last{};
    Le32 reserved{};
};
struct Probe {
    Head head{};
    Le32 endpoint{};
    std::array<std::uint8_t, 64> reserved{};
};

/// A property of PROBE's answer (5.13.6.8.1).
struct ReservedMemory {
    static constexpr std::uint16_t type_number = 1;
    static constexpr std::uint8_t subtype_reserved = 0;
    static constexpr std::uint8_t subtype_msi = 1;

    Le16 type{type_number};
    Le16 length{20}; ///< without these two
    std::uint8_t subtype{};
    std::array<std::uint8_t, 3> zero{};
    Le64 start{};
    Le64 last{};
};
/// Bytes of properties in PROBE's answer; room for 21 regions.
inline constexpr std::uint32_t probe_size = 512;

/// An element of the event queue (5.13.6.9).
struct FaultRecord {
    static constexpr std::uint32_t flag_read = 1;
    static constexpr std::uint32_t flag_write = 2;
    static constexpr std::uint32_t flag_address = 1 << 8;
    /// Not of the standard, and only for drivers that accepted feature::private_requests: as a later draft has it.
    static constexpr std::uint32_t flag_pasid = 1 << 9;

    std::uint8_t reason{};
    std::array<std::uint8_t, 3> zero{};
    Le32 flags{};
    Le32 endpoint{};
    Le32 pasid{}; ///< with flag_pasid; 0 otherwise
    Le64 address{};
};

} // namespace wire
} // namespace inox::iommu
