// SPDX-License-Identifier: Apache-2.0
#include "iommu/mapping_table.hpp"

#include <algorithm>
#include <iterator>

#include "vmm/base/bytes.hpp"

namespace iommu {
namespace {

using vmm::Iova;
using IovaRange = vmm::Range<Iova>;

constexpr std::uint64_t flag_bits = vmm::page_size - 1;

} // namespace

std::size_t MappingTable::Chunk::first_from(std::uint64_t address) const {
    const auto found = std::lower_bound(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count), address,
                                        [](const Entry& entry, std::uint64_t value) { return entry.start < value; });
    return static_cast<std::size_t>(found - entries.begin());
}

std::size_t MappingTable::Chunk::first_after(std::uint64_t address) const {
    const auto found = std::upper_bound(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count), address,
                                        [](std::uint64_t value, const Entry& entry) { return value < entry.start; });
    return static_cast<std::size_t>(found - entries.begin());
}

Mapping MappingTable::unpack(const Entry& entry) {
    return {*IovaRange::closed(Iova{entry.start}, Iova{entry.last}), vmm::Gpa{entry.physical_and_flags & ~flag_bits},
            static_cast<std::uint32_t>(entry.physical_and_flags & flag_bits)};
}

MappingTable::Chunks::const_iterator MappingTable::chunk_of(std::uint64_t address) const {
    return std::prev(chunks_.upper_bound(address));
}

MappingTable::Chunks::iterator MappingTable::chunk_of(std::uint64_t address) {
    return std::prev(chunks_.upper_bound(address));
}

const MappingTable::Entry* MappingTable::at_or_before(std::uint64_t address) const {
    if (chunks_.empty())
        return nullptr;
    auto chunk = chunk_of(address);
    const std::size_t next = chunk->second.first_after(address);
    if (next != 0)
        return &chunk->second.entries[next - 1];
    if (chunk == chunks_.begin())
        return nullptr;
    const Chunk& before = std::prev(chunk)->second;
    return &before.entries[before.count - 1];
}

const MappingTable::Entry* MappingTable::after(std::uint64_t address) const {
    if (chunks_.empty())
        return nullptr;
    auto chunk = chunk_of(address);
    const std::size_t next = chunk->second.first_after(address);
    if (next != chunk->second.count)
        return &chunk->second.entries[next];
    return ++chunk == chunks_.end() ? nullptr : &chunk->second.entries.front();
}

bool MappingTable::overlaps(IovaRange range) const {
    // What starts latest at or before the range's end is the only one that can reach into it.
    const Entry* entry = at_or_before(range.last().raw());
    return entry && entry->last >= range.start().raw();
}

std::optional<Mapping> MappingTable::find(Iova address) const {
    const Entry* entry = at_or_before(address.raw());
    return entry && entry->last >= address.raw() ? std::optional{unpack(*entry)} : std::nullopt;
}

bool MappingTable::cuts(IovaRange range) const {
    const Entry* first = at_or_before(range.start().raw());
    if (first && first->start < range.start().raw() && first->last >= range.start().raw())
        return true;
    const Entry* last = at_or_before(range.last().raw());
    return last && last->last > range.last().raw();
}

std::optional<IovaRange> MappingTable::extent(IovaRange range) const {
    const Entry* last = at_or_before(range.last().raw());
    if (!last || last->start < range.start().raw())
        return std::nullopt;
    const Entry* first = at_or_before(range.start().raw());
    if (!first || first->start != range.start().raw())
        first = after(range.start().raw());
    return IovaRange::closed(Iova{first->start}, Iova{last->last});
}

bool MappingTable::insert(const Mapping& mapping) {
    if (overlaps(mapping.range))
        return false;
    const std::uint64_t start = mapping.range.start().raw();
    if (chunks_.empty())
        chunks_.emplace(0, Chunk{});
    auto chunk = chunk_of(start);
    if (chunk->second.count == capacity)
        chunk = split(chunk, start);
    auto& [count, entries] = chunk->second;
    const auto at = entries.begin() + static_cast<std::ptrdiff_t>(chunk->second.first_from(start));
    const auto end = entries.begin() + static_cast<std::ptrdiff_t>(count);
    std::copy_backward(at, end, end + 1);
    *at = {start, mapping.range.last().raw(), mapping.physical.raw() | (mapping.flags & flag_bits)};
    ++count;
    ++size_;
    return true;
}

/// Returns the half that `address` belongs to.
MappingTable::Chunks::iterator MappingTable::split(Chunks::iterator chunk, std::uint64_t address) {
    Chunk& low = chunk->second;
    // A chunk that grows at its end, as with addresses given out in order, stays full.
    const bool at_end = std::next(chunk) == chunks_.end() && address > low.entries[capacity - 1].start;
    const std::size_t keep = at_end ? capacity - 1 : capacity / 2;
    const auto high = chunks_.emplace_hint(std::next(chunk), low.entries[keep].start, Chunk{});
    std::copy(low.entries.begin() + static_cast<std::ptrdiff_t>(keep), low.entries.end(), high->second.entries.begin());
    high->second.count = capacity - keep;
    low.count = keep;
    return address >= high->first ? high : chunk;
}

std::size_t MappingTable::erase(IovaRange range) {
    if (chunks_.empty())
        return 0;
    std::size_t erased = 0;
    for (auto chunk = chunk_of(range.start().raw()); chunk != chunks_.end();) {
        auto& [count, entries] = chunk->second;
        const std::size_t from = chunk->second.first_from(range.start().raw());
        const std::size_t to = chunk->second.first_after(range.last().raw());
        const bool further = to == count;
        std::copy(entries.begin() + static_cast<std::ptrdiff_t>(to),
                  entries.begin() + static_cast<std::ptrdiff_t>(count),
                  entries.begin() + static_cast<std::ptrdiff_t>(from));
        count -= to - from;
        erased += to - from;
        chunk = count == 0 ? chunks_.erase(chunk) : std::next(chunk);
        if (!further)
            break;
    }
    size_ -= erased;
    if (!chunks_.empty() && chunks_.begin()->first != 0) {
        auto first = chunks_.extract(chunks_.begin());
        first.key() = 0;
        chunks_.insert(std::move(first));
    }
    if (erased != 0)
        merge_around(range.start().raw());
    return erased;
}

/// At most the chunk before an erased range, the one behind it and their neighbours have become small.
void MappingTable::merge_around(std::uint64_t address) {
    if (chunks_.empty())
        return;
    auto left = chunk_of(address);
    if (left != chunks_.begin())
        --left;
    for (int pairs = 0; pairs < 3; ++pairs) {
        const auto right = std::next(left);
        if (right == chunks_.end())
            return;
        Chunk& low = left->second;
        const Chunk& high = right->second;
        if (low.count + high.count > merged) {
            left = right;
            continue;
        }
        std::copy_n(high.entries.begin(), high.count, low.entries.begin() + static_cast<std::ptrdiff_t>(low.count));
        low.count += high.count;
        chunks_.erase(right);
    }
}

} // namespace iommu
