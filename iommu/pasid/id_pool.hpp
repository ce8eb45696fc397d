// SPDX-License-Identifier: Apache-2.0
// Numbers 0 to count-1, each taken or free; the lowest free one at or above a bound is found in a few loads.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace inox::iommu {

/// Not synchronised. A bit is 1 when its number is free; a bit of the level above is 1 when a word below is not 0.
class IdPool {
public:
    explicit IdPool(std::uint32_t count);

    /// The lowest free number in [min, max].
    [[nodiscard]] std::optional<std::uint32_t> lowest_free(std::uint32_t min, std::uint32_t max) const;
    /// The lowest taken number at or above `from`.
    [[nodiscard]] std::optional<std::uint32_t> next_taken(std::uint32_t from) const;
    [[nodiscard]] bool is_free(std::uint32_t number) const;
    void take(std::uint32_t number);
    void release(std::uint32_t number);
    [[nodiscard]] std::uint32_t count() const { return count_; }

private:
    std::uint32_t count_;
    std::vector<std::vector<std::uint64_t>> levels_;
};

} // namespace inox::iommu
