// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/request.hpp"

#include <linux/virtio_blk.h>

#include <cstring>
#include <string>

#include "tests/catch.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::virtio_block_request_test {

using devices::virtio::BlockLimits;
using devices::virtio::BlockRequest;
using devices::virtio::BlockRequestKind;
using devices::virtio::BlockStatus;
using devices::virtio::BlockVerdict;
using devices::virtio::Chain;

namespace {

/// A chain with buffers of its own.
struct Made {
    std::vector<std::string> buffers{};
    Chain chain{};
    BlockRequest request{};
    BlockLimits limits{1000, false};

    Made& out(std::string bytes) {
        buffers.push_back(std::move(bytes));
        chain.readable.push_back({nullptr, buffers.size() - 1});
        return *this;
    }
    Made& in(std::size_t size) {
        buffers.emplace_back(size, '?');
        chain.writable.push_back({nullptr, buffers.size() - 1});
        return *this;
    }
    Made& header(std::uint32_t type, std::uint64_t sector) {
        const virtio_blk_outhdr raw{type, 0, sector};
        return out({reinterpret_cast<const char*>(&raw), sizeof raw}); // NOLINT: bytes of a wire struct
    }
    Made& range(std::uint64_t sector, std::uint32_t sectors, std::uint32_t flags = 0) {
        const virtio_blk_discard_write_zeroes raw{sector, sectors, flags};
        return out({reinterpret_cast<const char*>(&raw), sizeof raw}); // NOLINT: bytes of a wire struct
    }
    BlockVerdict parse() {
        for (auto* side : {&chain.readable, &chain.writable})
            for (iovec& piece : *side) {
                auto& buffer = buffers[piece.iov_len];
                piece = {buffer.data(), buffer.size()};
            }
        return devices::virtio::parse(chain, limits, request);
    }
};

bool is(const BlockVerdict& verdict, BlockStatus status, std::string_view problem) {
    return verdict.status == status && verdict.problem && verdict.problem == problem;
}
bool refused(const BlockVerdict& verdict, std::string_view problem) {
    return is(verdict, BlockStatus::io_error, problem);
}
bool unsupported(const BlockVerdict& verdict, std::string_view problem) {
    return is(verdict, BlockStatus::unsupported, problem);
}

} // namespace

TEST_CASE("a read is its header, room for data and a status byte") {
    Made made;
    made.header(VIRTIO_BLK_T_IN, 7).in(512).in(1024).in(1);
    CHECK_FALSE(made.parse().problem);
    CHECK(made.request.kind == BlockRequestKind::read);
    CHECK(made.request.ranges[0].offset == 7 * 512);
    CHECK(made.request.bytes() == 1536);
    CHECK(made.request.answer == 1537);
    CHECK(Chain::bytes(made.chain.writable) == 1536);
    CHECK(made.chain.readable.empty());
    CHECK(made.request.status == reinterpret_cast<std::byte*>(made.buffers[3].data())); // NOLINT
}

TEST_CASE("layouts are the driver's choice: a header in pieces, data behind it, the status behind data") {
    Made read;
    const virtio_blk_outhdr raw{VIRTIO_BLK_T_IN, 0, 1};
    const std::string bytes{reinterpret_cast<const char*>(&raw), sizeof raw}; // NOLINT: bytes of a wire struct
    read.out(bytes.substr(0, 3)).out(bytes.substr(3)).in(513);
    CHECK_FALSE(read.parse().problem);
    CHECK(read.request.bytes() == 512);
    CHECK(read.request.status == reinterpret_cast<std::byte*>(read.buffers[2].data()) + 512); // NOLINT

    Made write;
    const virtio_blk_outhdr out{VIRTIO_BLK_T_OUT, 0, 999};
    write.out(std::string{reinterpret_cast<const char*>(&out), sizeof out} + std::string(512, 'x')).in(1); // NOLINT
    CHECK_FALSE(write.parse().problem);
    CHECK(write.request.kind == BlockRequestKind::write);
    CHECK(Chain::bytes(write.chain.readable) == 512);
    CHECK(write.chain.writable.empty());
}

TEST_CASE("data in the wrong direction is refused") {
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_IN, 0).out(std::string(512, 'x')).in(1).parse(),
                  "data in the wrong direction"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_IN, 0).out("x").in(512).in(1).parse(), "data in the wrong direction"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_OUT, 0).in(512).in(1).parse(), "data in the wrong direction"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_DISCARD, 0).range(0, 1).in(16).in(1).parse(),
                  "data in the wrong direction"));
}

TEST_CASE("no data, and data that is not whole sectors, is refused") {
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_IN, 0).in(1).parse(), "no data"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_OUT, 0).in(1).parse(), "no data"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_IN, 0).in(511).in(1).parse(), "data is not whole sectors"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_OUT, 0).out(std::string(513, 'x')).in(1).parse(),
                  "data is not whole sectors"));
}

TEST_CASE("what lies beyond the capacity is refused, also when the sum would wrap") {
    auto read = [](std::uint64_t sector, std::size_t bytes) {
        return Made{}.header(VIRTIO_BLK_T_IN, sector).in(bytes).in(1).parse();
    };
    CHECK_FALSE(read(999, 512).problem);
    CHECK(refused(read(999, 1024), "beyond the capacity"));
    CHECK(refused(read(1000, 512), "beyond the capacity"));
    CHECK(refused(read(~std::uint64_t{0}, 512), "beyond the capacity"));
    CHECK(refused(read(~std::uint64_t{0} / 512 + 1, 512), "beyond the capacity"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_WRITE_ZEROES, 0).range(~std::uint64_t{0}, 2).in(1).parse(),
                  "beyond the capacity"));
}

TEST_CASE("a request larger than what was announced is refused") {
    Made made;
    made.limits.sectors = ~std::uint64_t{0};
    made.header(VIRTIO_BLK_T_OUT, 0).out(std::string(BlockLimits::max_bytes + 512, 'x')).in(1);
    CHECK(refused(made.parse(), "more data than seg_max segments of size_max"));
}

TEST_CASE("a short header, or no room for the status, is refused") {
    Made made;
    made.out("short").in(1);
    CHECK(refused(made.parse(), "a short header"));
    CHECK(made.request.status);
    Made none;
    none.header(VIRTIO_BLK_T_FLUSH, 0);
    CHECK(refused(none.parse(), "no status byte"));
    CHECK_FALSE(none.request.status);
    CHECK(refused(Made{}.parse(), "no status byte"));
}

TEST_CASE("unknown types are answered with UNSUPP, those of legacy SCSI and secure erase among them") {
    for (const std::uint32_t type :
         {0U + VIRTIO_BLK_T_SCSI_CMD, 3U, 5U, 9U, 0U + VIRTIO_BLK_T_SECURE_ERASE, 0x1000U, 0x7fffffffU, ~0U})
        CHECK(unsupported(Made{}.header(type, 0).in(512).in(1).parse(), "unknown type"));
    CHECK(unsupported(Made{}.header(VIRTIO_BLK_T_BARRIER, 0).in(512).in(1).parse(), "unknown type"));
}

TEST_CASE("a read-only disk refuses every change, and still flushes") {
    auto with = [](std::uint32_t type, std::string data) {
        Made made;
        made.limits.read_only = true;
        made.header(type, 0);
        if (!data.empty())
            made.out(std::move(data));
        return made.in(1).parse();
    };
    CHECK(refused(with(VIRTIO_BLK_T_OUT, std::string(512, 'x')), "a write to a read-only disk"));
    CHECK(unsupported(with(VIRTIO_BLK_T_DISCARD, std::string(16, '\1')), "a change to a read-only disk"));
    CHECK(unsupported(with(VIRTIO_BLK_T_WRITE_ZEROES, std::string(16, '\1')), "a change to a read-only disk"));
    CHECK_FALSE(with(VIRTIO_BLK_T_FLUSH, "").problem);
}

TEST_CASE("the serial number needs room for all of it") {
    Made made;
    made.header(VIRTIO_BLK_T_GET_ID, 0).in(20).in(1);
    CHECK_FALSE(made.parse().problem);
    CHECK(made.request.kind == BlockRequestKind::get_id);
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_GET_ID, 0).in(19).in(1).parse(), "no room for the serial number"));
}

TEST_CASE("a discard carries several ranges, a write-zeroes one that may become a hole") {
    Made discard;
    discard.header(VIRTIO_BLK_T_DISCARD, 0).range(1, 2).range(10, 990).in(1);
    CHECK_FALSE(discard.parse().problem);
    CHECK(discard.request.kind == BlockRequestKind::discard);
    REQUIRE(discard.request.range_count == 2);
    CHECK(discard.request.ranges[1].offset == 10 * 512);
    CHECK(discard.request.ranges[1].length == 990 * 512);
    for (const bool unmap : {false, true}) {
        Made zero;
        zero.header(VIRTIO_BLK_T_WRITE_ZEROES, 0).range(0, 8, unmap ? 1 : 0).in(1);
        CHECK_FALSE(zero.parse().problem);
        CHECK(zero.request.kind == BlockRequestKind::write_zeroes);
        CHECK(zero.request.ranges[0].unmap == unmap);
    }
}

TEST_CASE("bad ranges are refused, unknown flags with UNSUPP") {
    auto with = [](std::uint32_t type, std::uint64_t sector, std::uint32_t sectors, std::uint32_t flags) {
        Made made;
        made.limits.sectors = std::uint64_t{1} << 40;
        return made.header(type, 0).range(sector, sectors, flags).in(1).parse();
    };
    CHECK(unsupported(with(VIRTIO_BLK_T_DISCARD, 0, 1, 1), "unknown flags of a range"));
    CHECK(unsupported(with(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 2), "unknown flags of a range"));
    CHECK(refused(with(VIRTIO_BLK_T_DISCARD, 0, 0, 0), "an empty range"));
    CHECK(
        refused(with(VIRTIO_BLK_T_DISCARD, 0, BlockLimits::max_range_sectors + 1, 0), "a range longer than announced"));
    CHECK_FALSE(with(VIRTIO_BLK_T_DISCARD, 0, BlockLimits::max_range_sectors, 0).problem);
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_DISCARD, 0).in(1).parse(), "no whole ranges"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_DISCARD, 0).out(std::string(17, 'x')).in(1).parse(), "no whole ranges"));
    Made many;
    many.header(VIRTIO_BLK_T_DISCARD, 0);
    for (unsigned i = 0; i <= BlockLimits::max_ranges; ++i)
        many.range(i, 1);
    CHECK(refused(many.in(1).parse(), "more ranges than announced"));
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_WRITE_ZEROES, 0).range(0, 1).range(1, 1).in(1).parse(),
                  "more ranges than announced"));
    // If one range is bad, nothing of the request is done.
    CHECK(refused(Made{}.header(VIRTIO_BLK_T_DISCARD, 0).range(0, 1).range(1000, 1).in(1).parse(),
                  "beyond the capacity"));
}

} // namespace inox::virtio_block_request_test
