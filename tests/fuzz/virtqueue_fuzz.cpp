// SPDX-License-Identifier: Apache-2.0
// Rings and descriptor tables full of anything, rewritten while the device works on them: buffers lie in guest RAM,
// chains are finite, a break is final.
//
//   input   log2 of the size, flags, then what the first bytes of guest RAM hold: descriptors at 0, the available ring
//           at 0x400, the used ring at 0x500, indirect tables anywhere. Flags: 1 event index; 2 the second half comes
//           later; 4 a misaligned ring; 8 a ring outside RAM; 16 chains keep their addresses
#include <algorithm>

#include "tests/fakes/virtqueue_driver.hpp"
#include "tests/fuzz/input.hpp"

using namespace inox;

namespace {

using devices::virtio::Chain;
using devices::virtio::Queue;
using fuzz::require;

constexpr std::size_t window = 0x1000;

void check(const Chain& chain, const fakes::TestRam& ram) {
    require(chain.readable.size() + chain.writable.size() <= Queue::max_chain);
    const auto& host = ram.memory.regions()[0].host;
    for (const auto* side : {&chain.readable, &chain.writable})
        for (const iovec& piece : *side) {
            const auto* start = static_cast<const std::byte*>(piece.iov_base);
            require(piece.iov_len != 0 && start >= host.data() && start + piece.iov_len <= host.data() + host.size());
        }
}

/// What devices do with a chain's bytes.
void use(const Chain& chain, unsigned n) {
    std::array<std::byte, 64> bytes{};
    const auto got = chain.copy_from(n % 9, bytes);
    require(got <= bytes.size() && got <= Chain::bytes(chain.readable));
    require(chain.copy_to(n % 7, std::span{bytes}.first(got)) <= got);
    require(chain.copy_from(0, {}) == 0 && chain.copy_to(0, {}) == 0);
    auto pieces = chain.readable;
    const auto all = Chain::bytes(pieces);
    const bool dropped = devices::virtio::drop_front(pieces, n % 40);
    require(dropped == (all >= n % 40) && Chain::bytes(pieces) == (dropped ? all - n % 40 : all));
    devices::virtio::keep_front(pieces, n % 30);
    require(Chain::bytes(pieces) <= n % 30);
}

/// Takes up to `most` chains and gives some of them back, as devices do.
void work(Queue& queue, Chain& chain, const fakes::TestRam& ram, unsigned most) {
    queue.ask_notifications(false);
    for (unsigned n = 0; n < most && queue.pop(chain); ++n) {
        check(chain, ram);
        use(chain, n);
        if (n % 5 == 4) {
            queue.undo_pop(chain.head);
            require(queue.has_work());
            break;
        }
        if (n % 16 == 15)
            chain.readable.reserve(1000); // as after a long chain
        queue.push(chain.head, static_cast<std::uint32_t>(Chain::bytes(chain.writable)));
        if (n % 3 == 0)
            (void)queue.take_interrupt();
    }
    queue.ask_notifications(true);
    chain.clear();
    require(!chain.head && chain.readable.empty());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fakes::TestRam ram;
    const auto all = std::as_bytes(std::span{data, size});
    const auto size_log = size > 0 ? data[0] % 7U : 0;
    const auto flags = size > 1 ? data[1] : 0U;
    const auto rings =
        all.subspan(std::min<std::size_t>(size, 2)).first(std::min(size - std::min<std::size_t>(size, 2), window));
    const std::size_t first = (flags & 2) != 0 ? rings.size() / 2 : rings.size();
    const auto& host = ram.memory.regions()[0].host;
    std::ranges::fill(host.first(window), std::byte{0});
    std::ranges::copy(rings.first(first), host.begin());

    const std::uint64_t used = (flags & 4) != 0 ? 0x502 : (flags & 8) != 0 ? host.size() - 4 : 0x500;
    Queue queue{
        ram.direct, {static_cast<std::uint16_t>(1U << size_log), Iova{0}, Iova{0x400}, Iova{used}}, (flags & 1) != 0};
    if (!queue.refresh()) {
        require((flags & 12) != 0 && queue.broken_reason() && !queue.has_work());
        return 0;
    }
    require((flags & 12) == 0);
    Chain chain;
    chain.keeps_addresses = (flags & 16) != 0;
    work(queue, chain, ram, 200);
    std::ranges::copy(rings.subspan(first), host.begin() + static_cast<std::ptrdiff_t>(first));
    work(queue, chain, ram, 200);
    if (queue.broken())
        require(queue.broken_reason() && !queue.pop(chain) && !queue.has_work() && !queue.refresh());
    return 0;
}
