// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/portals.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "vmm/base/state.hpp"

namespace inox::devices::dsa {
namespace {

unsigned queue_of(std::uint64_t offset) { return static_cast<unsigned>(offset / portal_stride); }
bool is_limited(std::uint64_t offset) { return (offset / portal_page & 1) != 0; }

SlotStatus status_of(Accelerator::Reply reply) {
    switch (reply) {
    case Accelerator::Reply::accepted:
        return SlotStatus::accepted;
    case Accelerator::Reply::retry:
        return SlotStatus::retry;
    case Accelerator::Reply::refused:
        break;
    }
    return SlotStatus::refused;
}

Descriptor descriptor_of(std::span<const std::byte, descriptor_size> bytes) {
    Descriptor out;
    std::memcpy(&out, bytes.data(), bytes.size());
    return out;
}

} // namespace

Portals::Portals(Accelerator& accelerator)
    : accelerator_{accelerator}, size_{std::bit_ceil(accelerator.shape().queues * portal_stride)},
      pages_(accelerator.shape().queues * (portal_stride / portal_page)) {}

Portals::Slot* Portals::slot(std::uint64_t offset) {
    const auto page = offset / portal_page;
    if (page >= pages_.size())
        return nullptr;
    if (!pages_[page])
        pages_[page] = std::make_unique<Page>();
    return &(*pages_[page])[offset % portal_page / descriptor_size];
}

void Portals::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    std::ranges::fill(data, std::byte{0xff});
    const std::lock_guard lock{mutex_};
    const auto page = offset / portal_page;
    if (page >= pages_.size() || !pages_[page])
        return;
    const Slot& from = (*pages_[page])[offset % portal_page / descriptor_size];
    if (from.status != SlotStatus::incomplete)
        store_le(data, static_cast<std::uint32_t>(from.status));
}

void Portals::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if ((data.size() != 4 && data.size() != 8) || !is_aligned(offset, data.size()))
        return;
    std::array<std::byte, descriptor_size> whole;
    {
        const std::lock_guard lock{mutex_};
        Slot* const to = slot(offset);
        if (!to)
            return;
        const std::size_t at = offset % descriptor_size;
        if (to->present == 0)
            to->status = SlotStatus::incomplete;
        std::ranges::copy(data, to->bytes.begin() + static_cast<std::ptrdiff_t>(at));
        to->present = static_cast<std::uint16_t>(to->present | (data.size() == 8 ? 3U : 1U) << at / 4);
        if (to->present != 0xffff)
            return;
        to->present = 0;
        whole = to->bytes;
    }
    const auto reply = accelerator_.submit(queue_of(offset), is_limited(offset), descriptor_of(whole));
    const std::lock_guard lock{mutex_};
    if (Slot* const to = slot(offset); to && to->present == 0)
        to->status = status_of(reply);
}

void Portals::write_wide(std::uint64_t offset, std::span<const std::byte, descriptor_size> data) noexcept {
    accelerator_.post(queue_of(offset), descriptor_of(data));
}

bool Portals::enqueue(std::uint64_t offset, std::span<const std::byte, descriptor_size> command) noexcept {
    return accelerator_.enqueue(queue_of(offset), is_limited(offset), descriptor_of(command)) ==
           Accelerator::Reply::accepted;
}

void Portals::state(State& state) {
    struct Saved {
        std::uint32_t number{}; ///< over all pages
        std::uint32_t status{};
        Slot slot{};
    };
    constexpr std::uint32_t none = 3; // for SlotStatus::incomplete
    const std::lock_guard lock{mutex_};
    const std::size_t slots = pages_.size() * slots_per_page;
    std::vector<Saved> saved;
    for (std::size_t number = 0; number < slots; ++number)
        if (const auto& page = pages_[number / slots_per_page]) {
            const Slot& one = (*page)[number % slots_per_page];
            const bool incomplete = one.status == SlotStatus::incomplete;
            if (one.present != 0 || !incomplete)
                saved.push_back({static_cast<std::uint32_t>(number),
                                 incomplete ? none : static_cast<std::uint32_t>(one.status), one});
        }
    state.list("slots", saved, slots, [slots](State& one, Saved& each) {
        one.number("number", each.number, 0U, static_cast<std::uint32_t>(slots - 1));
        one.number("status", each.status, 0U, none);
        one.number("present", each.slot.present, std::uint16_t{0}, std::uint16_t{0xfffe});
        one.bytes("bytes", std::span{each.slot.bytes});
    });
    if (!state.restores() || !state.ok())
        return;
    for (Saved& each : saved) {
        each.slot.status = each.status == none ? SlotStatus::incomplete : static_cast<SlotStatus>(each.status);
        *slot(std::uint64_t{each.number} * descriptor_size) = each.slot;
    }
}

void Portals::reset() noexcept {
    const std::lock_guard lock{mutex_};
    for (auto& page : pages_)
        page.reset();
}

} // namespace inox::devices::dsa
