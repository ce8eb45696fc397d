// SPDX-License-Identifier: Apache-2.0
// The mappings of one domain, made for a million of them: sorted, in chunks of up to 128 whose first addresses a
// tree keeps. 24 bytes a mapping in a full chunk, at most about 70.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <memory_resource>
#include <optional>

#include "vmm/base/address.hpp"
#include "vmm/base/range.hpp"

namespace inox::iommu {

/// One MAP request's worth of addresses.
struct Mapping {
    Range<Iova> range;
    Gpa physical;        ///< of the first byte; page aligned
    std::uint32_t flags; ///< wire::map_*
    bool operator==(const Mapping&) const = default;
};

/// Not synchronised. Ranges are inclusive and may end at the last byte of the 64-bit space.
class MappingTable {
    struct Entry {
        std::uint64_t start;
        std::uint64_t last;
        std::uint64_t physical_and_flags; ///< pages leave the low bits free
    };
    static constexpr std::uint32_t capacity = 128;
    static constexpr std::uint32_t small = capacity * 3 / 8;  ///< with less a chunk joins a neighbour
    static constexpr std::uint32_t merged = capacity * 3 / 4; ///< if together they hold no more than this
    using Entries = std::array<Entry, capacity>;
    struct Chunk {
        std::unique_ptr<Entries> entries{};
        std::uint32_t count{0};
    };
    /// The key is at most the start of the chunk's first entry, and above all of the chunk before; the first is 0. The
    /// tree's nodes hold no entries, so that a search stays within few pages of memory.
    using Chunks = std::pmr::map<std::uint64_t, Chunk>;

public:
    /// Where something is, or would be: good until the table changes.
    struct Place {
        Chunks::iterator chunk;
        std::uint32_t at;
    };
    /// Where a mapping of the range would stand; nullopt when it would overlap another. Changes nothing: others may
    /// read meanwhile.
    [[nodiscard]] std::optional<Place> free_place(Range<Iova> range);
    /// `place` is free_place() of its range.
    void insert(Place place, const Mapping& mapping);

    /// The mapping that holds the address.
    [[nodiscard]] std::optional<Mapping> find(Iova address) const;
    [[nodiscard]] bool overlaps(Range<Iova> range) const;

    /// What lies in a range.
    struct Inside {
        bool cut{};                          ///< an edge of the range splits a mapping: nothing else counts
        std::optional<Range<Iova>> extent{}; ///< from the first to the last mapped byte
        Place first{};
    };
    [[nodiscard]] Inside inside(Range<Iova> range);
    /// Removes the mappings in the extent, which exists, uncut; returns how many.
    std::size_t erase(const Inside& inside);

    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    /// Bytes of host memory for all of it.
    [[nodiscard]] std::size_t memory() const {
        return chunks_.size() * (sizeof(Entries) + sizeof(Chunks::value_type) + node_overhead);
    }
    /// Calls `visit(mapping)` in order of address for those that start at or after `from`, until it returns false.
    template <class F> void visit(Iova from, F&& visit) const {
        if (chunks_.empty())
            return;
        auto chunk = std::prev(chunks_.upper_bound(from.raw()));
        for (std::uint32_t at = first_from(chunk->second, from.raw());; ++at) {
            for (; at == chunk->second.count; at = 0)
                if (++chunk == chunks_.end())
                    return;
            if (!visit(unpack((*chunk->second.entries)[at])))
                return;
        }
    }

private:
    static constexpr std::size_t node_overhead = 56; ///< of the tree's node, and of an allocation

    static Mapping unpack(const Entry& entry);
    /// Index of the first entry that starts at or after the address.
    static std::uint32_t first_from(const Chunk& chunk, std::uint64_t address);
    [[nodiscard]] const Entry* at_or_before(std::uint64_t address) const;
    [[nodiscard]] Place place_from(std::uint64_t address);
    [[nodiscard]] const Entry* before(const Place& place) const;
    [[nodiscard]] const Entry* entry_at(const Place& place) const;
    Place split(Place place);
    void merge(Chunks::iterator chunk);

    std::pmr::unsynchronized_pool_resource nodes_{}; ///< side by side: what searches run through
    Chunks chunks_{&nodes_};
    std::size_t size_{0};
};

} // namespace inox::iommu
