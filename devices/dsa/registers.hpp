// SPDX-License-Identifier: Apache-2.0
// The register model of Intel's Data Streaming Accelerator 1.0: offsets in BAR 0 and the fields this model has.
#pragma once

#include <cstdint>

#include "devices/dsa/shape.hpp"

namespace inox::devices::dsa {

// Tables are laid out for the largest shape.
inline constexpr unsigned max_vectors = max_queues + 1;

/// BAR 0, in bytes.
namespace reg {
inline constexpr std::uint64_t version = 0x00;
inline constexpr std::uint64_t gencap = 0x10;
inline constexpr std::uint64_t wqcap = 0x20;
inline constexpr std::uint64_t grpcap = 0x30;
inline constexpr std::uint64_t engcap = 0x38;
inline constexpr std::uint64_t opcap = 0x40;
inline constexpr std::uint64_t table_offsets = 0x60;
inline constexpr std::uint64_t gencfg = 0x80;
inline constexpr std::uint64_t genctrl = 0x88;
inline constexpr std::uint64_t gensts = 0x90;
inline constexpr std::uint64_t intcause = 0x98;
inline constexpr std::uint64_t cmd = 0xa0;
inline constexpr std::uint64_t cmdsts = 0xa8;
inline constexpr std::uint64_t cmdcap = 0xb0;
inline constexpr std::uint64_t swerr = 0xc0; ///< 32 bytes
inline constexpr std::uint64_t msix_perm = 0x300;
inline constexpr std::uint64_t grpcfg = 0x400;
inline constexpr std::uint64_t wqcfg = 0x600;
inline constexpr std::uint64_t registers_end = 0x800;
inline constexpr std::uint64_t msix_table = 0x1000;
inline constexpr std::uint64_t msix_pba = 0x1800;
inline constexpr std::uint64_t bar_size = 0x2000;
} // namespace reg

inline constexpr unsigned group_stride = 64;
inline constexpr unsigned queue_stride = 32;
static_assert(reg::msix_perm + max_vectors * 8 <= reg::grpcfg);
static_assert(reg::grpcfg + max_engines * group_stride <= reg::wqcfg);
static_assert(reg::wqcfg + max_queues * queue_stride <= reg::registers_end);

inline constexpr unsigned max_transfer_shift = 31;
inline constexpr unsigned max_batch_shift = 10;

/// Overlapping copies, command capabilities, configuration by the driver. No block-on-fault: there are no page
/// requests.
inline constexpr std::uint64_t gencap_value =
    1U << 1 | 1U << 4 | std::uint64_t{max_transfer_shift} << 16 | std::uint64_t{max_batch_shift} << 21 | 1ULL << 31;
inline constexpr std::uint64_t wqcap_features = 1ULL << 48 | 1ULL << 49 | 1ULL << 51 | 1ULL << 52; ///< shared,
                                                                                                   ///< dedicated,
                                                                                                   ///< priority,
                                                                                                   ///< occupancy

inline constexpr std::uint32_t gencfg_user_interrupts = 1U << 12;
inline constexpr std::uint32_t gencfg_mask = 0xff | gencfg_user_interrupts;
inline constexpr std::uint32_t genctrl_error_interrupt = 1U << 0;
inline constexpr std::uint32_t genctrl_mask = 0x3;

enum class DeviceState : std::uint8_t { disabled = 0, enabled = 1, draining = 2 };

namespace cause {
inline constexpr std::uint32_t software_error = 1U << 0;
inline constexpr std::uint32_t command = 1U << 1;
} // namespace cause

inline constexpr std::uint32_t cmd_interrupt = 1U << 31;
inline constexpr std::uint32_t cmdsts_active = 1U << 31;

enum class Command : std::uint8_t {
    enable_device = 1,
    disable_device = 2,
    drain_all = 3,
    abort_all = 4,
    reset_device = 5,
    enable_queue = 6,
    disable_queue = 7,
    drain_queue = 8,
    abort_queue = 9,
    reset_queue = 10,
    drain_pasid = 11,
    abort_pasid = 12,
};
inline constexpr std::uint32_t cmdcap_value = 0x1ffe; ///< commands 1 to 12; interrupt handles are vector numbers

enum class CommandError : std::uint8_t {
    none = 0,
    invalid_command = 0x01,
    invalid_queue = 0x02,
    device_enabled = 0x10,
    bad_config = 0x11,
    bus_master_off = 0x12,
    pasid_config = 0x13,
    queue_sizes = 0x14,
    group_queues = 0x15,  ///< a queue is in two groups
    group_engines = 0x16, ///< an engine is in two groups
    group_halves = 0x17,  ///< a group has queues or engines, but not both
    group_range = 0x18,   ///< a group names a queue or engine that does not exist
    device_disabled = 0x20,
    queue_enabled = 0x21,
    queue_size = 0x22,
    queue_priority = 0x23,
    queue_mode = 0x24,
    queue_block_on_fault = 0x25,
    queue_pasid = 0x26,
    queue_batch = 0x27,
    queue_transfer = 0x28,
    device_not_enabled = 0x31,
    queue_not_enabled = 0x32,
};

/// WQCFG, by 32-bit words.
namespace wq {
inline constexpr unsigned size_word = 0;
inline constexpr unsigned threshold_word = 1;
inline constexpr unsigned mode_word = 2;
inline constexpr unsigned shift_word = 3;
inline constexpr unsigned state_word = 6;
inline constexpr unsigned words = queue_stride / 4;
inline constexpr std::uint32_t dedicated = 1U << 0;
inline constexpr std::uint32_t block_on_fault = 1U << 1;
inline constexpr std::uint32_t pasid_enable = 1U << 28;
inline constexpr std::uint32_t privileged = 1U << 29;
inline constexpr std::uint32_t both_modes = 1U << 29; ///< of the state word
} // namespace wq

/// MSIX_PERM: who may ask for the vector.
inline constexpr std::uint32_t permission_pasid_enable = 1U << 3; ///< only the PASID in bits 31:12; otherwise nobody's
inline constexpr std::uint32_t permission_mask = 0xfffff00c;

/// SWERR, first word. Error codes are completion statuses or the ones below.
namespace swerr {
inline constexpr std::uint64_t valid = 1U << 0;
inline constexpr std::uint64_t overflow = 1U << 1;
inline constexpr std::uint64_t descriptor_valid = 1U << 2;
inline constexpr std::uint64_t queue_valid = 1U << 3;
inline constexpr std::uint64_t batch = 1U << 4;
inline constexpr std::uint64_t write = 1U << 5;
inline constexpr std::uint64_t privileged = 1U << 6;
// Numbers of the specification that we could not confirm.
inline constexpr std::uint8_t queue_not_enabled = 0x51; ///< posted write to a portal of a queue that is off
inline constexpr std::uint8_t wrong_write = 0x52;       ///< posted write to a shared queue
inline constexpr std::uint8_t queue_overflow = 0x53;    ///< posted write to a full queue
} // namespace swerr

// BAR 2: four pages a queue; even pages unlimited, odd ones limited.
inline constexpr std::uint64_t portal_page = 0x1000;
inline constexpr std::uint64_t portal_stride = 4 * portal_page;

} // namespace inox::devices::dsa
