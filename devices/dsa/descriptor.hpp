// SPDX-License-Identifier: Apache-2.0
// Descriptors and completion records of Intel's Data Streaming Accelerator as they lie in memory, and the checks that
// need nothing but the descriptor and the limits of its queue.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/base/bytes.hpp"

namespace inox::devices::dsa {

inline constexpr std::size_t descriptor_size = 64;
inline constexpr std::size_t completion_size = 32;

enum class Opcode : std::uint8_t {
    noop = 0x00,
    batch = 0x01,
    drain = 0x02,
    memmove = 0x03,
    fill = 0x04,
    compare = 0x05,
    compare_pattern = 0x06,
    create_delta = 0x07,
    apply_delta = 0x08,
    dualcast = 0x09,
    crc = 0x10,
    copy_crc = 0x11,
};
/// OPCAP: bit n for opcode n. All others are status bad_opcode.
inline constexpr std::uint64_t supported_opcodes = 0x3ff | 1U << 0x10 | 1U << 0x11;

namespace flag {
inline constexpr std::uint32_t fence = 1U << 0;
inline constexpr std::uint32_t block_on_fault = 1U << 1;
inline constexpr std::uint32_t completion_address_valid = 1U << 2;
inline constexpr std::uint32_t request_completion = 1U << 3;
inline constexpr std::uint32_t request_interrupt = 1U << 4;
inline constexpr std::uint32_t check_result = 1U << 7;
inline constexpr std::uint32_t cache_control = 1U << 8;
inline constexpr std::uint32_t traffic_classes = 0x1e20; ///< of addresses and the completion record; taken, no effect
inline constexpr std::uint32_t strict_order = 1U << 13;
inline constexpr std::uint32_t readback = 1U << 14;      ///< of the destination; also on DRAIN
inline constexpr std::uint32_t read_seed = 1U << 16;     ///< CRC: the seed is in memory
inline constexpr std::uint32_t no_inversion = 1U << 17;  ///< CRC: neither seed nor result is inverted, and the result
                                                         ///< is not bit-reversed
inline constexpr std::uint32_t no_reflection = 1U << 18; ///< CRC: bits of each byte from the highest down
} // namespace flag

/// Completion status. `write` is added when the faulting access was one.
enum class Status : std::uint8_t {
    none = 0,
    success = 0x01,
    success_false_predicate = 0x02,
    page_fault = 0x03,
    batch_failures = 0x05,
    batch_page_fault = 0x06,
    delta_offset_order = 0x07,
    delta_offset_range = 0x08,
    bad_opcode = 0x10,
    invalid_flags = 0x11,
    nonzero_reserved = 0x12,
    transfer_size = 0x13,
    descriptor_count = 0x14,
    delta_size = 0x15,
    overlap = 0x16,
    dualcast_alignment = 0x17,
    batch_list_alignment = 0x18,
    interrupt_handle = 0x19,
    completion_not_translated = 0x1a,
    completion_alignment = 0x1b,
    address_alignment = 0x1c,
    privilege = 0x1d,
    readback_fault = 0x1f,
    hardware_error = 0x20,
};
inline constexpr std::uint8_t status_write_fault = 0x80;

struct Descriptor {
    Le32 pasid_word;
    Le32 flags_word;
    Le64 completion;
    Le64 source;      ///< also: pattern, descriptor list, first readback address
    Le64 destination; ///< also: second source, pattern, second readback address
    Le32 size;        ///< bytes; BATCH: descriptors
    Le16 interrupt_handle;
    Le16 reserved;
    std::array<std::byte, 24> specific;

    [[nodiscard]] std::uint32_t pasid() const { return pasid_word & 0xfffff; }
    [[nodiscard]] bool privileged() const { return (pasid_word >> 31) != 0; }
    [[nodiscard]] Opcode opcode() const { return static_cast<Opcode>(flags_word >> 24); }
    [[nodiscard]] std::uint32_t flags() const { return flags_word & 0xffffff; }
    [[nodiscard]] bool has(std::uint32_t bits) const { return (flags() & bits) != 0; }
    /// Operation-specific bytes from descriptor offset `at` (40 and up).
    template <std::unsigned_integral T> [[nodiscard]] T field(std::size_t at) const {
        return load_le<T>(std::span{specific}.subspan(at - 40, sizeof(T)));
    }
};
static_assert(sizeof(Descriptor) == descriptor_size && GuestPod<Descriptor>);

/// Where operation-specific fields are.
namespace at {
inline constexpr std::size_t expected_result = 40; ///< u8: COMPARE, COMPARE PATTERN
inline constexpr std::size_t delta_address = 40;   ///< u64: CREATE DELTA
inline constexpr std::size_t max_delta_size = 48;  ///< u32
inline constexpr std::size_t expected_mask = 56;   ///< u8: CREATE DELTA
inline constexpr std::size_t delta_size = 40;      ///< u32: APPLY DELTA
inline constexpr std::size_t destination2 = 40;    ///< u64: DUALCAST
inline constexpr std::size_t crc_seed = 40;        ///< u32
inline constexpr std::size_t crc_seed_address = 48;
} // namespace at

/// CREATE DELTA: each difference is an offset in units of 8 bytes, then the 8 bytes of the second source.
inline constexpr std::uint32_t delta_entry_size = 10;
inline constexpr std::uint32_t min_delta_size = 80;
inline constexpr std::uint32_t max_delta_source = 0x10000 * 8;

struct CompletionRecord {
    std::uint8_t status{};
    std::uint8_t result{};
    std::uint16_t fault_info{};
    std::uint32_t bytes_completed{};
    std::uint64_t fault_address{};
    std::uint64_t specific{}; ///< CRC value or delta record size
    std::uint64_t reserved{};
};
static_assert(sizeof(CompletionRecord) == completion_size && GuestPod<CompletionRecord>);

/// What the queue and the device allow a descriptor.
struct Limits {
    std::uint64_t max_transfer{}; ///< bytes
    std::uint32_t max_batch{};    ///< descriptors
    bool user_interrupts{};       ///< descriptors without privilege may ask for interrupts
    bool privileged_mode{};       ///< descriptors may be privileged
    bool inside_batch{};
};

/// none when the descriptor may be executed. Interrupt handles are the device's to judge.
[[nodiscard]] Status check(const Descriptor& descriptor, const Limits& limits) noexcept;

} // namespace inox::devices::dsa
