// SPDX-License-Identifier: Apache-2.0
// Rings and buffers behind the IOMMU, whose mappings the guest changes meanwhile. Whatever the input, a chain's pieces
// are the RAM that the mappings say, with the access that they allow, and an unmapped page is reached no more.
//
//   input   log2 of the size, then operations: map and unmap a few pages, write to guest RAM, work on the ring
#include <algorithm>

#include "devices/virtio/queue.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/state.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using devices::virtio::Chain;
using devices::virtio::Queue;
using fakes::IommuWorld;
using Status = IommuWorld::Status;
using fuzz::Input;
using fuzz::require;

constexpr std::uint32_t domain = 1;
constexpr std::uint64_t ring_page = 0x40; ///< where the device sees the ring
constexpr std::uint64_t pages = 64;       ///< that the guest maps among, after it

struct Target {
    IommuWorld world{{.address_bits = 48, .mappings = 200}, false, false};
    bool bypass{false}; ///< all of RAM is in reach

    /// Whether the device may do this to host memory, as the mappings are now.
    [[nodiscard]] bool allowed(const iovec& piece, bool write) const {
        const auto host = world.ram.memory.regions()[0].host;
        const auto* start = static_cast<const std::byte*>(piece.iov_base);
        if (start < host.data() || start + piece.iov_len > host.data() + host.size() || piece.iov_len == 0)
            return false;
        if (bypass)
            return true;
        const auto first = static_cast<std::uint64_t>(start - host.data());
        const auto mappings = *world.domains.mappings(iommu::DomainId{domain}, Iova{0}, SIZE_MAX);
        for (auto at = first; at < first + piece.iov_len; at += page_size - at % page_size)
            if (std::ranges::none_of(mappings, [&](const auto& one) {
                    return (one.flags & (write ? IommuWorld::write : IommuWorld::read)) != 0 &&
                           at >= one.physical.raw() && at - one.physical.raw() < one.range.size();
                }))
                return false;
        return true;
    }
    void check(const Chain& chain) const {
        require(chain.readable.size() + chain.writable.size() <= Queue::max_chain);
        for (const auto& piece : chain.readable)
            require(allowed(piece, false));
        for (const auto& piece : chain.writable)
            require(allowed(piece, true));
    }
    void work(Queue& queue, Chain& chain) const {
        const auto hold = world.disk_memory->hold();
        if (!queue.refresh())
            return;
        queue.ask_notifications(false);
        for (unsigned n = 0; n < 20 && queue.pop(chain); ++n) {
            check(chain);
            std::array<std::byte, 40> bytes{};
            (void)chain.copy_from(n, bytes);
            (void)chain.copy_to(n, bytes);
            auto pieces = chain.writable;
            require(devices::virtio::drop_front(pieces, n * 10) == (Chain::bytes(chain.writable) >= n * 10));
            devices::virtio::keep_front(pieces, 30);
            if (n % 7 == 6) {
                queue.undo_pop(chain.head);
                require(queue.has_work());
                break;
            }
            queue.push(chain.head, static_cast<std::uint32_t>(Chain::bytes(chain.writable)));
            if (n % 3 == 0)
                (void)queue.take_interrupt();
        }
        queue.ask_notifications(true);
        (void)queue.ask_for_more();
        chain.clear();
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    Input input{std::as_bytes(std::span{data, size})};
    const auto shape = input.take<std::uint8_t>();
    const auto size_log = shape % 7U;
    const bool aligned = shape < 0xf8;
    Target target;
    require(target.world.attach(domain, IommuWorld::disk) == IommuWorld::Status::ok);
    require(target.world.map(domain, ring_page, ring_page, 16) == IommuWorld::Status::ok);
    Queue queue{*target.world.disk_memory,
                {static_cast<std::uint16_t>(1U << size_log), Iova{ring_page * page_size + (aligned ? 0U : 4U)},
                 Iova{ring_page * page_size + 0x400}, Iova{ring_page * page_size + 0x500}},
                (shape & 0x40) == 0};
    require(queue.size() == queue.layout().size && &queue.memory() == target.world.disk_memory.get());
    Chain chain;
    chain.keeps_addresses = true;
    for (int step = 0; step < 40 && !input.empty(); ++step) {
        const auto kind = input.take<std::uint8_t>();
        const auto first = ring_page + input.take<std::uint8_t>() % pages;
        const auto count = input.take<std::uint8_t>() % 4U;
        switch (kind % 8) {
        case 0:
        case 1:
            (void)target.world.map(domain, first, first + count, input.take<std::uint16_t>() % 1100U,
                                   1U + kind / 8 % 7);
            break;
        case 2:
            (void)target.world.unmap(domain, first, first + count);
            break;
        case 6: // out of its domain and back, whose mappings went with it
            require(target.world.detach(domain, IommuWorld::disk) == Status::ok);
            target.bypass = count == 1 && target.world.attach(domain + 1, IommuWorld::disk, true) == Status::ok;
            if (count != 0)
                target.work(queue, chain);
            if (std::exchange(target.bypass, false))
                require(target.world.detach(domain + 1, IommuWorld::disk) == Status::ok);
            require(target.world.attach(domain, IommuWorld::disk) == Status::ok);
            (void)target.world.map(domain, ring_page, ring_page, 16);
            break;
        case 3: // a mapping goes while the device is at work on an older chain
            target.work(queue, chain);
            (void)target.world.unmap(domain, first, first);
            break;
        case 4:
        case 5: // the ring itself
            (void)target.world.ram.memory.write(Gpa{16 * page_size + ((first - ring_page) % 48) * 0x20},
                                                input.take(count * 16 + 6));
            break;
        default:
            if (count == 3 && queue.outstanding() == 0) { // saved, damaged perhaps, and restored
                auto saved = tests::save(queue);
                fuzz::damage(saved, input);
                (void)tests::restore(queue, std::move(saved));
            }
            target.work(queue, chain);
        }
    }
    target.work(queue, chain);
    if (queue.broken())
        require(queue.broken_reason() && !queue.pop(chain));
    const auto counts = target.world.disk_memory->counts();
    require(!aligned || queue.broken() || counts.hits + counts.misses + counts.faults > 0);
    return 0;
}
