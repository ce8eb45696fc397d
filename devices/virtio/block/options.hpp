// SPDX-License-Identifier: Apache-2.0
// What is asked of a disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "devices/rate_limiter.hpp"

namespace inox::devices::virtio {

/// What an image may hold.
enum class ImageContents : std::uint8_t {
    raw_disk, ///< nothing that is known for an image of another format, or for a compressed file
    anything,
};

enum class BlockEngineKind : std::uint8_t { automatic, sync, io_uring };

/// When a write that the guest was told is done reaches stable storage.
enum class BlockCache : std::uint8_t {
    unsafe,       ///< when the host likes; the guest is not offered to flush
    writeback,    ///< when the guest flushes
    writethrough, ///< at once
};

struct BlockOptions {
    static constexpr unsigned max_queues = 32;
    static constexpr std::size_t longest_serial = 20; ///< VIRTIO_BLK_ID_BYTES

    std::string id{};
    std::string path{};
    bool read_only{false};
    bool temporary{false}; ///< what the guest writes is thrown away at the end; the image is only read
    ImageContents contents{ImageContents::raw_disk};
    BlockCache cache{BlockCache::writeback};
    BlockEngineKind engine{BlockEngineKind::automatic};
    RateLimits limits{};
    unsigned queues{1};   ///< 1..max_queues
    std::string serial{}; ///< at most longest_serial bytes reach the guest; empty: the id
    bool operator==(const BlockOptions&) const = default;
};

} // namespace inox::devices::virtio
