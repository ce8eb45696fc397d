// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/request.hpp"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <cstddef>
#include <limits>

namespace inox::devices::virtio {
namespace {

struct Header {
    std::uint32_t type;
    std::uint32_t reserved;
    std::uint64_t sector;
};
static_assert(sizeof(Header) == sizeof(virtio_blk_outhdr) && GuestPod<Header>);
static_assert(offsetof(Header, sector) == offsetof(virtio_blk_outhdr, sector));

struct Range {
    std::uint64_t sector;
    std::uint32_t sectors;
    std::uint32_t flags;
};
static_assert(sizeof(Range) == sizeof(virtio_blk_discard_write_zeroes) && GuestPod<Range>);
static_assert(offsetof(Range, sectors) == offsetof(virtio_blk_discard_write_zeroes, num_sectors));
static_assert(offsetof(Range, flags) == offsetof(virtio_blk_discard_write_zeroes, flags));

static_assert(static_cast<int>(BlockStatus::ok) == VIRTIO_BLK_S_OK);
static_assert(static_cast<int>(BlockStatus::io_error) == VIRTIO_BLK_S_IOERR);
static_assert(static_cast<int>(BlockStatus::unsupported) == VIRTIO_BLK_S_UNSUPP);

constexpr std::uint32_t flag_unmap = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
constexpr std::size_t id_bytes = VIRTIO_BLK_ID_BYTES;

constexpr BlockVerdict refuse(const char* problem) { return {BlockStatus::io_error, problem}; }
constexpr BlockVerdict unsupported(const char* problem) { return {BlockStatus::unsupported, problem}; }

/// Removes the last writable byte, which takes the status; null when there is none.
std::byte* take_status(Chain& chain) {
    if (chain.writable.empty())
        return nullptr;
    iovec& last = chain.writable.back();
    auto* byte = static_cast<std::byte*>(last.iov_base) + --last.iov_len;
    if (last.iov_len == 0)
        chain.writable.pop_back();
    return byte;
}

bool within(std::uint64_t sector, std::uint64_t sectors, std::uint64_t capacity) {
    return sector <= capacity && sectors <= capacity - sector;
}

BlockVerdict check_transfer(const Header& header, std::span<const iovec> data, std::span<const iovec> other,
                            const BlockLimits& limits, BlockRequest& request) {
    if (!other.empty())
        return refuse("data in the wrong direction");
    const std::uint64_t bytes = Chain::bytes(data);
    if (bytes == 0)
        return refuse("no data");
    if (bytes % sector_size != 0)
        return refuse("data is not whole sectors");
    if (bytes > BlockLimits::max_bytes)
        return refuse("more data than seg_max segments of size_max");
    if (!within(header.sector, bytes / sector_size, limits.sectors))
        return refuse("beyond the capacity");
    request.ranges[0] = {header.sector * sector_size, bytes, false};
    request.range_count = 1;
    return {};
}

BlockVerdict check_range(const Range& range, BlockRequestKind kind, const BlockLimits& limits) {
    // 5.2.6.2: unknown flags, and unmap on a discard, are answered with UNSUPP.
    if ((range.flags & ~(kind == BlockRequestKind::discard ? 0U : flag_unmap)) != 0)
        return unsupported("unknown flags of a range");
    if (range.sectors == 0)
        return refuse("an empty range");
    if (range.sectors > BlockLimits::max_range_sectors)
        return refuse("a range longer than announced");
    if (!within(range.sector, range.sectors, limits.sectors))
        return refuse("beyond the capacity");
    return {};
}

BlockVerdict check_ranges(const Chain& chain, const BlockLimits& limits, BlockRequest& request) {
    const std::uint64_t bytes = Chain::bytes(chain.readable);
    if (!chain.writable.empty())
        return refuse("data in the wrong direction");
    if (bytes == 0 || bytes % sizeof(Range) != 0)
        return refuse("no whole ranges");
    const std::uint32_t most =
        request.kind == BlockRequestKind::discard ? BlockLimits::max_ranges : BlockLimits::max_zero_ranges;
    if (bytes > most * sizeof(Range))
        return refuse("more ranges than announced");
    std::array<Range, BlockLimits::max_ranges> ranges{};
    const auto count = static_cast<std::uint32_t>(bytes / sizeof(Range));
    chain.copy_from(0, std::as_writable_bytes(std::span{ranges}.first(count)));
    for (std::uint32_t i = 0; i < count; ++i) {
        if (const BlockVerdict verdict = check_range(ranges[i], request.kind, limits); verdict.problem)
            return verdict;
        request.ranges[i] = {ranges[i].sector * sector_size, ranges[i].sectors * sector_size,
                             (ranges[i].flags & flag_unmap) != 0};
    }
    request.range_count = count;
    return {};
}

BlockVerdict check(const Header& header, const Chain& chain, const BlockLimits& limits, BlockRequest& request) {
    switch (header.type) {
    case VIRTIO_BLK_T_IN:
        request.kind = BlockRequestKind::read;
        return check_transfer(header, chain.writable, chain.readable, limits, request);
    case VIRTIO_BLK_T_OUT:
        request.kind = BlockRequestKind::write;
        if (limits.read_only)
            return refuse("a write to a read-only disk"); // 5.2.6.2
        return check_transfer(header, chain.readable, chain.writable, limits, request);
    case VIRTIO_BLK_T_FLUSH:
        request.kind = BlockRequestKind::flush;
        return {};
    case VIRTIO_BLK_T_GET_ID:
        request.kind = BlockRequestKind::get_id;
        return Chain::bytes(chain.writable) < id_bytes ? refuse("no room for the serial number") : BlockVerdict{};
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        request.kind = header.type == VIRTIO_BLK_T_DISCARD ? BlockRequestKind::discard : BlockRequestKind::write_zeroes;
        return limits.read_only ? unsupported("a change to a read-only disk") : check_ranges(chain, limits, request);
    default:
        return unsupported("unknown type");
    }
}

} // namespace

BlockVerdict parse(Chain& chain, const BlockLimits& limits, BlockRequest& request) noexcept {
    request.range_count = 0;
    request.answer = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(Chain::bytes(chain.writable), std::numeric_limits<std::uint32_t>::max()));
    request.status = take_status(chain);
    if (!request.status)
        return refuse("no status byte");
    Header header{};
    if (chain.copy_from(0, std::as_writable_bytes(std::span{&header, 1})) != sizeof header)
        return refuse("a short header");
    drop_front(chain.readable, sizeof header);
    return check(header, chain, limits, request);
}

} // namespace inox::devices::virtio
