// SPDX-License-Identifier: Apache-2.0
#include "iommu/mapping_table.hpp"

#include <algorithm>

#include "vmm/base/bytes.hpp"

namespace inox::iommu {
namespace {

using IovaRange = Range<Iova>;

constexpr std::uint64_t flag_bits = page_size - 1;

} // namespace

Mapping MappingTable::unpack(const Entry& entry) {
    return {*IovaRange::closed(Iova{entry.start}, Iova{entry.last}), Gpa{entry.physical_and_flags & ~flag_bits},
            static_cast<std::uint32_t>(entry.physical_and_flags & flag_bits)};
}

std::uint32_t MappingTable::first_from(const Chunk& chunk, std::uint64_t address) {
    const auto begin = chunk.entries->begin();
    return static_cast<std::uint32_t>(
        std::lower_bound(begin, begin + chunk.count, address,
                         [](const Entry& entry, std::uint64_t value) { return entry.start < value; }) -
        begin);
}

const MappingTable::Entry* MappingTable::at_or_before(std::uint64_t address) const {
    if (chunks_.empty())
        return nullptr;
    const auto chunk = std::prev(chunks_.upper_bound(address));
    const auto begin = chunk->second.entries->begin();
    const auto next = std::upper_bound(begin, begin + chunk->second.count, address,
                                       [](std::uint64_t value, const Entry& entry) { return value < entry.start; });
    if (next != begin)
        return std::prev(next);
    if (chunk == chunks_.begin())
        return nullptr;
    const Chunk& other = std::prev(chunk)->second;
    return &(*other.entries)[other.count - 1];
}

/// The first entry that starts at or after the address, or the place behind the last entry of the chunk before.
/// Precondition: there are chunks.
MappingTable::Place MappingTable::place_from(std::uint64_t address) {
    const auto chunk = std::prev(chunks_.upper_bound(address));
    return {chunk, first_from(chunk->second, address)};
}

const MappingTable::Entry* MappingTable::before(const Place& place) const {
    if (place.at != 0)
        return &(*place.chunk->second.entries)[place.at - 1];
    if (place.chunk == chunks_.begin())
        return nullptr;
    const Chunk& other = std::prev(place.chunk)->second;
    return &(*other.entries)[other.count - 1];
}

const MappingTable::Entry* MappingTable::entry_at(const Place& place) const {
    if (place.at != place.chunk->second.count)
        return &(*place.chunk->second.entries)[place.at];
    const Chunks::const_iterator next = std::next(place.chunk);
    return next == chunks_.end() ? nullptr : &next->second.entries->front();
}

bool MappingTable::overlaps(IovaRange range) const {
    // Only the entry with the latest start at or before the range's end can reach into the range.
    const Entry* entry = at_or_before(range.last().raw());
    return entry && entry->last >= range.start().raw();
}

std::optional<Mapping> MappingTable::find(Iova address) const {
    const Entry* entry = at_or_before(address.raw());
    return entry && entry->last >= address.raw() ? std::optional{unpack(*entry)} : std::nullopt;
}

std::optional<MappingTable::Place> MappingTable::free_place(IovaRange range) {
    if (chunks_.empty())
        return Place{chunks_.end(), 0};
    const Place place = place_from(range.start().raw());
    const Entry* previous = before(place);
    const Entry* next = entry_at(place);
    if ((previous && previous->last >= range.start().raw()) || (next && next->start <= range.last().raw()))
        return std::nullopt;
    return place;
}

void MappingTable::insert(Place place, const Mapping& mapping) {
    if (place.chunk == chunks_.end())
        place.chunk = chunks_.emplace(0, Chunk{std::make_unique<Entries>(), 0}).first;
    if (place.chunk->second.count == capacity)
        place = split(place);
    auto& [entries, count] = place.chunk->second;
    const auto at = entries->begin() + place.at;
    std::copy_backward(at, entries->begin() + count, entries->begin() + count + 1);
    *at = {mapping.range.start().raw(), mapping.range.last().raw(),
           mapping.physical.raw() | (mapping.flags & flag_bits)};
    ++count;
    ++size_;
}

/// Returns the place's new position, in the half that has it.
MappingTable::Place MappingTable::split(Place place) {
    Entries& low = *place.chunk->second.entries;
    // When entries are added in order of address, the full chunk stays full and only the last one grows.
    const bool at_end = place.at == capacity && std::next(place.chunk) == chunks_.end();
    const std::uint32_t keep = at_end ? capacity - 1 : capacity / 2;
    const auto high = chunks_.emplace_hint(std::next(place.chunk), low[keep].start,
                                           Chunk{std::make_unique<Entries>(), capacity - keep});
    std::copy(low.begin() + keep, low.end(), high->second.entries->begin());
    place.chunk->second.count = keep;
    return place.at > keep ? Place{high, place.at - keep} : place;
}

MappingTable::Inside MappingTable::inside(IovaRange range) {
    if (chunks_.empty())
        return {};
    Inside found{false, {}, place_from(range.start().raw())};
    const Entry* previous = before(found.first);
    if (previous && previous->last >= range.start().raw())
        return {true, {}, {}};
    const Entry* first = entry_at(found.first);
    if (!first || first->start > range.last().raw())
        return {};
    // Most ranges are one mapping: then the next mapping lies behind the range.
    const bool more = found.first.at + 1 >= found.first.chunk->second.count || first[1].start <= range.last().raw();
    const Entry* last = more ? at_or_before(range.last().raw()) : first;
    if (last->last > range.last().raw())
        return {true, {}, {}};
    found.extent = IovaRange::closed(Iova{first->start}, Iova{last->last});
    return found;
}

std::size_t MappingTable::erase(const Inside& inside) {
    const std::uint64_t last = inside.extent->last().raw();
    auto chunk = inside.first.chunk;
    const auto first_chunk = chunk;
    std::size_t erased = 0;
    for (std::uint32_t from = inside.first.at; chunk != chunks_.end(); from = 0) {
        auto& [entries, count] = chunk->second;
        std::uint32_t to = from;
        while (to < count && (*entries)[to].start <= last)
            ++to;
        const bool further = to == count;
        std::copy(entries->begin() + to, entries->begin() + count, entries->begin() + from);
        count -= to - from;
        erased += to - from;
        if (!further)
            break;
        const auto next = std::next(chunk);
        if (count == 0 && chunk != first_chunk)
            chunks_.erase(chunk);
        chunk = next;
    }
    size_ -= erased;
    if (chunk != chunks_.end() && chunk != first_chunk)
        merge(chunk);
    merge(first_chunk);
    return erased;
}

/// Merges a chunk that has become small with a neighbour.
void MappingTable::merge(Chunks::iterator chunk) {
    if (chunk->second.count >= small)
        return;
    const auto next = std::next(chunk);
    if (chunk->second.count == 0) {
        if (chunk != chunks_.begin()) {
            chunks_.erase(chunk);
        } else if (next != chunks_.end()) { // the first chunk keeps its key
            chunk->second = std::move(next->second);
            chunks_.erase(next);
        } else {
            chunks_.clear();
        }
        return;
    }
    const auto join = [this](Chunks::iterator left, Chunks::iterator right) {
        auto& [entries, count] = left->second;
        if (count + right->second.count > merged)
            return false;
        std::copy_n(right->second.entries->begin(), right->second.count, entries->begin() + count);
        count += right->second.count;
        chunks_.erase(right);
        return true;
    };
    if (chunk != chunks_.begin() && join(std::prev(chunk), chunk))
        return;
    if (next != chunks_.end())
        join(chunk, next);
}

} // namespace inox::iommu
