// SPDX-License-Identifier: Apache-2.0
// A virtio-blk request taken apart (virtio 1.2, 5.2.6). Pure: bytes in, a checked request or a status out.
//
//   readable   header{type, reserved, sector}, data to write or ranges
//   writable   data to read, status byte
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "devices/virtio/queue.hpp"

namespace inox::devices::virtio {

/// The unit of capacity and sector numbers, whatever the block size (5.2.4).
inline constexpr std::uint64_t sector_size = 512;

/// The status byte (5.2.6).
enum class BlockStatus : std::uint8_t { ok = 0, io_error = 1, unsupported = 2 };

/// What requests are checked against.
struct BlockLimits {
    /// Announced to the driver as seg_max and size_max: together the most one request may move.
    static constexpr std::uint32_t max_pieces = 254;
    static constexpr std::uint32_t max_piece_bytes = 256 * 1024;
    static constexpr std::uint64_t max_bytes = std::uint64_t{max_pieces} * max_piece_bytes;
    /// Of a discard, and of a write-zeroes, which may have to write them.
    static constexpr std::uint32_t max_ranges = 16;
    static constexpr std::uint32_t max_zero_ranges = 1;
    static constexpr std::uint32_t max_range_sectors = 128 * 1024 * 1024 / sector_size;

    std::uint64_t sectors{};
    bool read_only{false}; ///< neither writes nor discards nor zeroes
};

/// A part of the disk, in bytes: not empty and within its capacity.
struct BlockRange {
    std::uint64_t offset{};
    std::uint64_t length{};
    bool unmap{false}; ///< zeroes may be holes
};

enum class BlockRequestKind : std::uint8_t { read, write, flush, discard, write_zeroes, get_id };

struct BlockRequest {
    BlockRequestKind kind{BlockRequestKind::flush};
    std::array<BlockRange, BlockLimits::max_ranges> ranges{}; ///< reads and writes have one
    std::uint32_t range_count{0};

    std::byte* status{nullptr}; ///< host address of the status byte; null when the driver left none
    std::uint32_t answer{0};    ///< bytes of the writable part, the status byte among them

    [[nodiscard]] std::uint64_t bytes() const { return range_count == 0 ? 0 : ranges[0].length; }
};

/// `problem` is null exactly when the request may be carried out; else `status` is the answer.
struct BlockVerdict {
    BlockStatus status{BlockStatus::ok};
    const char* problem{nullptr};
};

/// Fills `request` and cuts header and status byte off `chain`, so that data is what remains. Reads every byte of the
/// chain it looks at once.
[[nodiscard]] BlockVerdict parse(Chain& chain, const BlockLimits& limits, BlockRequest& request) noexcept;

} // namespace inox::devices::virtio
