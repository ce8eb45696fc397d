// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/id_pool.hpp"

#include <bit>

namespace inox::iommu {
namespace {

constexpr std::uint32_t word_bits = 64;

} // namespace

IdPool::IdPool(std::uint32_t count) : count_{count} {
    for (std::uint32_t bits = count; levels_.empty() || bits > 1; bits = (bits + word_bits - 1) / word_bits) {
        auto& level = levels_.emplace_back((bits + word_bits - 1) / word_bits, ~std::uint64_t{0});
        if (bits % word_bits != 0)
            level.back() = (1ULL << bits % word_bits) - 1;
    }
}

std::optional<std::uint32_t> IdPool::lowest_free(std::uint32_t min, std::uint32_t max) const {
    std::size_t level = 0;
    std::size_t from = min;
    // Goes up until a word has a set bit at or above `from`, then down along the lowest set bits.
    for (;; ++level) {
        if (level == levels_.size())
            return std::nullopt;
        const std::size_t word = from / word_bits;
        if (word >= levels_[level].size())
            return std::nullopt;
        if (const auto bits = levels_[level][word] & ~std::uint64_t{0} << from % word_bits; bits != 0) {
            from = word * word_bits + static_cast<unsigned>(std::countr_zero(bits));
            break;
        }
        from = word + 1;
    }
    while (level-- > 0)
        from = from * word_bits + static_cast<unsigned>(std::countr_zero(levels_[level][from]));
    return from <= max ? std::optional{static_cast<std::uint32_t>(from)} : std::nullopt;
}

std::optional<std::uint32_t> IdPool::next_taken(std::uint32_t from) const {
    for (std::uint32_t word = from / word_bits; word < levels_[0].size(); ++word) {
        auto taken = ~levels_[0][word];
        if (word == from / word_bits)
            taken &= ~std::uint64_t{0} << from % word_bits;
        if (taken == 0)
            continue;
        const std::uint32_t number = word * word_bits + static_cast<unsigned>(std::countr_zero(taken));
        return number < count_ ? std::optional{number} : std::nullopt;
    }
    return std::nullopt;
}

bool IdPool::is_free(std::uint32_t number) const {
    return number < count_ && (levels_[0][number / word_bits] >> number % word_bits & 1) != 0;
}

void IdPool::take(std::uint32_t number) {
    for (auto& level : levels_) {
        auto& word = level[number / word_bits];
        word &= ~(1ULL << number % word_bits);
        if (word != 0)
            return;
        number /= word_bits;
    }
}

void IdPool::release(std::uint32_t number) {
    for (auto& level : levels_) {
        auto& word = level[number / word_bits];
        const bool was_empty = word == 0;
        word |= 1ULL << number % word_bits;
        if (!was_empty)
            return;
        number /= word_bits;
    }
}

} // namespace inox::iommu
