// SPDX-License-Identifier: Apache-2.0
// A block request in any number of pieces: whatever it says, what passes lies on the disk and in the driver's buffers.
//
//   input   flags, readable piece lengths (0 ends), 2-byte writable piece lengths (0 ends), bytes of the readable part
#include <algorithm>
#include <cstring>

#include "devices/virtio/block/request.hpp"
#include "tests/fuzz/input.hpp"

using namespace inox;

namespace {

using namespace devices::virtio;
using Kind = BlockRequestKind;
using fuzz::require;

/// Each piece is a block of its own, so that the sanitizer sees an access outside.
struct Buffers {
    std::vector<std::vector<std::byte>> blocks{};
    std::vector<iovec> pieces{};

    void add(std::size_t size) {
        blocks.emplace_back(size);
        pieces.push_back({blocks.back().data(), size});
    }
    [[nodiscard]] bool hold(const iovec& piece) const {
        const auto* start = static_cast<const std::byte*>(piece.iov_base);
        return std::ranges::any_of(blocks, [&](const auto& block) {
            return start >= block.data() && piece.iov_len != 0 && start + piece.iov_len <= block.data() + block.size();
        });
    }
};

template <class T> std::size_t take(std::span<const std::byte>& input) {
    const T value = load_le<T>(input);
    input = input.subspan(std::min(input.size(), sizeof(T)));
    return value;
}

template <class T> Buffers make(std::span<const std::byte>& input) {
    Buffers buffers;
    constexpr std::size_t most = 40;
    while (const std::size_t size = take<T>(input)) {
        buffers.add(size);
        if (buffers.blocks.size() == most)
            break;
    }
    return buffers;
}

void check(const BlockRequest& request, const BlockLimits& limits, std::uint64_t data) {
    const bool transfer = request.kind == Kind::read || request.kind == Kind::write;
    const bool ranges = request.kind == Kind::discard || request.kind == Kind::write_zeroes;
    require(request.status != nullptr && request.answer != 0);
    require(request.range_count <= BlockLimits::max_ranges && (request.range_count != 0) == (transfer || ranges));
    require(!limits.read_only || request.kind == Kind::read || !(transfer || ranges));
    for (const BlockRange& range : std::span{request.ranges}.first(request.range_count)) {
        require(range.length != 0 && range.length % sector_size == 0 && range.offset % sector_size == 0);
        require(range.offset + range.length > range.offset);
        require(range.offset + range.length <= limits.sectors * sector_size);
        require(!range.unmap || request.kind == Kind::write_zeroes);
    }
    require(!transfer || data == request.bytes());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::span<const std::byte> input = std::as_bytes(std::span{data, size});
    const std::size_t flags = take<std::uint8_t>(input);
    const BlockLimits limits{(flags & 1) != 0 ? std::uint64_t{1} << 50 : 64, (flags & 2) != 0};
    Buffers readable = make<std::uint8_t>(input);
    Buffers writable = make<std::uint16_t>(input);
    for (auto& block : readable.blocks) {
        std::copy_n(input.begin(), std::min(input.size(), block.size()), block.begin());
        input = input.subspan(std::min(input.size(), block.size()));
    }
    Chain chain{.readable = readable.pieces, .writable = writable.pieces};
    BlockRequest request{};
    const BlockVerdict verdict = parse(chain, limits, request);
    for (const iovec& piece : chain.readable)
        require(readable.hold(piece));
    for (const iovec& piece : chain.writable)
        require(writable.hold(piece));
    require((request.status != nullptr) == !writable.pieces.empty());
    if (request.status)
        *request.status = std::byte{0};
    if (verdict.problem)
        require(verdict.status != BlockStatus::ok);
    else
        check(request, limits, Chain::bytes(request.kind == Kind::read ? chain.writable : chain.readable));
    return 0;
}
