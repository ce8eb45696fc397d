// SPDX-License-Identifier: Apache-2.0
// What a block device tells its driver: feature bits and configuration space (virtio 1.2, 5.2.3 and 5.2.4).
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/base/bytes.hpp"

namespace inox::devices::virtio {

class BlockFile;

namespace block_feature {
inline constexpr std::uint64_t bit(unsigned number) { return std::uint64_t{1} << number; }
inline constexpr std::uint64_t size_max = bit(1);
inline constexpr std::uint64_t seg_max = bit(2);
inline constexpr std::uint64_t geometry = bit(4);
inline constexpr std::uint64_t read_only = bit(5);
inline constexpr std::uint64_t blk_size = bit(6);
inline constexpr std::uint64_t flush = bit(9);
inline constexpr std::uint64_t topology = bit(10);
inline constexpr std::uint64_t config_wce = bit(11);
inline constexpr std::uint64_t multi_queue = bit(12);
inline constexpr std::uint64_t discard = bit(13);
inline constexpr std::uint64_t write_zeroes = bit(14);
} // namespace block_feature

/// The layout of 5.2.4.
struct BlockConfig {
    std::uint64_t capacity{}; ///< 512-byte sectors
    std::uint32_t size_max{};
    std::uint32_t seg_max{};
    std::uint16_t cylinders{};
    std::uint8_t heads{};
    std::uint8_t sectors{};
    std::uint32_t blk_size{};
    std::uint8_t physical_block_exp{};
    std::uint8_t alignment_offset{};
    std::uint16_t min_io_size{};
    std::uint32_t opt_io_size{};
    std::uint8_t writeback{};
    std::uint8_t unused0{};
    std::uint16_t num_queues{};
    std::uint32_t max_discard_sectors{};
    std::uint32_t max_discard_seg{};
    std::uint32_t discard_sector_alignment{};
    std::uint32_t max_write_zeroes_sectors{};
    std::uint32_t max_write_zeroes_seg{};
    std::uint8_t write_zeroes_may_unmap{};
    std::uint8_t unused1[3]{};
    std::uint32_t secure_erase[3]{}; ///< not offered
};
static_assert(GuestPod<BlockConfig>);

/// Everything but `writeback`, which the driver may change.
BlockConfig make_block_config(const BlockFile& file, unsigned queues);

} // namespace inox::devices::virtio
