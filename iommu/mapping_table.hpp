// SPDX-License-Identifier: Apache-2.0
// The mappings of one domain, made for a million of them: sorted, in chunks of up to 64 whose first addresses a tree
// keeps. 24 bytes a mapping in a full chunk, at most about 70.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>

#include "vmm/base/address.hpp"
#include "vmm/base/range.hpp"

namespace iommu {

/// One MAP request's worth of addresses.
struct Mapping {
    vmm::Range<vmm::Iova> range;
    vmm::Gpa physical;   ///< of the first byte; page aligned
    std::uint32_t flags; ///< wire::map_*
    bool operator==(const Mapping&) const = default;
};

/// Not synchronised. Ranges are inclusive and may end at the last byte of the 64-bit space.
class MappingTable {
public:
    /// False, and nothing changes, when the range overlaps a mapping.
    [[nodiscard]] bool insert(const Mapping& mapping);
    /// The mapping that holds the address.
    [[nodiscard]] std::optional<Mapping> find(vmm::Iova address) const;
    [[nodiscard]] bool overlaps(vmm::Range<vmm::Iova> range) const;
    /// An edge of the range lies inside a mapping, so that erasing it would split that.
    [[nodiscard]] bool cuts(vmm::Range<vmm::Iova> range) const;
    /// From the first to the last mapped byte in a range that cuts nothing; nullopt when there is none.
    [[nodiscard]] std::optional<vmm::Range<vmm::Iova>> extent(vmm::Range<vmm::Iova> range) const;
    /// Removes the mappings inside a range that cuts nothing; returns how many.
    std::size_t erase(vmm::Range<vmm::Iova> range);

    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    /// Bytes of host memory for all of it.
    [[nodiscard]] std::size_t memory() const { return chunks_.size() * (sizeof(Chunks::value_type) + node_overhead); }
    /// Calls `visit(mapping)` in order of address for those that start at or after `from`, until it returns false.
    template <class F> void visit(vmm::Iova from, F&& visit) const {
        if (chunks_.empty())
            return;
        auto chunk = chunk_of(from.raw());
        for (std::size_t at = chunk->second.first_from(from.raw());; ++at) {
            for (; at == chunk->second.count; at = 0)
                if (++chunk == chunks_.end())
                    return;
            if (!visit(unpack(chunk->second.entries[at])))
                return;
        }
    }

private:
    static constexpr std::size_t capacity = 64;
    static constexpr std::size_t merged = 48; ///< neighbours that together hold no more become one
    static constexpr std::size_t node_overhead = 40;

    struct Entry {
        std::uint64_t start;
        std::uint64_t last;
        std::uint64_t physical_and_flags; ///< pages leave the low bits free
    };
    struct Chunk {
        std::size_t count{0};
        std::array<Entry, capacity> entries; // NOLINT: only the first `count` are anything
        /// Index of the first entry that starts at or after, or after, the address.
        [[nodiscard]] std::size_t first_from(std::uint64_t address) const;
        [[nodiscard]] std::size_t first_after(std::uint64_t address) const;
    };
    /// The key is at most the start of the chunk's first entry, and above all of the chunk before; the first is 0.
    using Chunks = std::map<std::uint64_t, Chunk>;

    static Mapping unpack(const Entry& entry);
    // When there is one.
    [[nodiscard]] Chunks::const_iterator chunk_of(std::uint64_t address) const;
    [[nodiscard]] Chunks::iterator chunk_of(std::uint64_t address);
    [[nodiscard]] const Entry* at_or_before(std::uint64_t address) const;
    [[nodiscard]] const Entry* after(std::uint64_t address) const;
    Chunks::iterator split(Chunks::iterator chunk, std::uint64_t address);
    void merge_around(std::uint64_t address);

    Chunks chunks_{};
    std::size_t size_{0};
};

} // namespace iommu
