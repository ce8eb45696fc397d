// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/config.hpp"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "devices/virtio/block/file.hpp"
#include "devices/virtio/block/request.hpp"

namespace inox::devices::virtio {
namespace {

static_assert(block_feature::size_max == block_feature::bit(VIRTIO_BLK_F_SIZE_MAX));
static_assert(block_feature::seg_max == block_feature::bit(VIRTIO_BLK_F_SEG_MAX));
static_assert(block_feature::geometry == block_feature::bit(VIRTIO_BLK_F_GEOMETRY));
static_assert(block_feature::read_only == block_feature::bit(VIRTIO_BLK_F_RO));
static_assert(block_feature::blk_size == block_feature::bit(VIRTIO_BLK_F_BLK_SIZE));
static_assert(block_feature::flush == block_feature::bit(VIRTIO_BLK_F_FLUSH));
static_assert(block_feature::topology == block_feature::bit(VIRTIO_BLK_F_TOPOLOGY));
static_assert(block_feature::config_wce == block_feature::bit(VIRTIO_BLK_F_CONFIG_WCE));
static_assert(block_feature::multi_queue == block_feature::bit(VIRTIO_BLK_F_MQ));
static_assert(block_feature::discard == block_feature::bit(VIRTIO_BLK_F_DISCARD));
static_assert(block_feature::write_zeroes == block_feature::bit(VIRTIO_BLK_F_WRITE_ZEROES));

static_assert(sizeof(BlockConfig) == sizeof(virtio_blk_config));
static_assert(offsetof(BlockConfig, seg_max) == offsetof(virtio_blk_config, seg_max));
static_assert(offsetof(BlockConfig, cylinders) == offsetof(virtio_blk_config, geometry));
static_assert(offsetof(BlockConfig, blk_size) == offsetof(virtio_blk_config, blk_size));
static_assert(offsetof(BlockConfig, opt_io_size) == offsetof(virtio_blk_config, opt_io_size));
static_assert(offsetof(BlockConfig, writeback) == offsetof(virtio_blk_config, wce));
static_assert(offsetof(BlockConfig, num_queues) == offsetof(virtio_blk_config, num_queues));
static_assert(offsetof(BlockConfig, max_discard_sectors) == offsetof(virtio_blk_config, max_discard_sectors));
static_assert(offsetof(BlockConfig, max_write_zeroes_seg) == offsetof(virtio_blk_config, max_write_zeroes_seg));
static_assert(offsetof(BlockConfig, write_zeroes_may_unmap) == offsetof(virtio_blk_config, write_zeroes_may_unmap));

/// How many whole units `bytes` has, at most the largest T.
template <class T> T units(std::uint64_t bytes, std::uint64_t unit) {
    return static_cast<T>(std::min<std::uint64_t>(bytes / unit, std::numeric_limits<T>::max()));
}

} // namespace

BlockConfig make_block_config(const BlockFile& file, unsigned queues) {
    const BlockTopology& host = file.topology();
    BlockConfig config{};
    config.capacity = file.size() / sector_size;
    config.size_max = BlockLimits::max_piece_bytes;
    config.seg_max = BlockLimits::max_pieces;
    config.heads = 16;
    config.sectors = 63;
    config.cylinders = units<std::uint16_t>(config.capacity, 16 * 63);
    config.blk_size = host.logical;
    config.physical_block_exp =
        static_cast<std::uint8_t>(std::bit_width(std::max(host.physical / host.logical, 1U)) - 1);
    config.min_io_size = units<std::uint16_t>(host.minimum_io, host.logical);
    config.opt_io_size = units<std::uint32_t>(host.optimal_io, host.logical);
    config.num_queues = static_cast<std::uint16_t>(queues);
    config.max_discard_sectors = BlockLimits::max_range_sectors;
    config.max_discard_seg = BlockLimits::max_ranges;
    config.discard_sector_alignment = units<std::uint32_t>(host.discard_unit, sector_size);
    config.max_write_zeroes_sectors = BlockLimits::max_range_sectors;
    config.max_write_zeroes_seg = BlockLimits::max_zero_ranges;
    config.write_zeroes_may_unmap = 1;
    return config;
}

} // namespace inox::devices::virtio
