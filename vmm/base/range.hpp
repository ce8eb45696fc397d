// SPDX-License-Identifier: Apache-2.0
// Inclusive ranges [start, last]: non-empty by construction, able to name the last byte of a 64-bit space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "vmm/base/address.hpp"

namespace inox {

/// Invariant: start <= last. A is an Address kind.
template <class A> class Range {
public:
    /// nullopt when start > last.
    static constexpr std::optional<Range> closed(A start, A last) {
        if (start > last)
            return std::nullopt;
        return Range{start, last};
    }
    /// nullopt when size is 0 or the range would wrap.
    static constexpr std::optional<Range> sized(A start, std::uint64_t size) {
        if (size == 0 || start.raw() + (size - 1) < start.raw())
            return std::nullopt;
        return Range{start, A{start.raw() + (size - 1)}};
    }
    static constexpr Range full() { return Range{A{0}, A{~std::uint64_t{0}}}; }

    [[nodiscard]] constexpr A start() const { return start_; }
    [[nodiscard]] constexpr A last() const { return last_; }
    /// The size in bytes would overflow for the full space; this never does.
    [[nodiscard]] constexpr std::uint64_t size_minus_one() const { return last_.raw() - start_.raw(); }
    /// Bytes. Precondition: not the full 64-bit space.
    [[nodiscard]] constexpr std::uint64_t size() const { return size_minus_one() + 1; }

    [[nodiscard]] constexpr bool contains(A address) const { return start_ <= address && address <= last_; }
    [[nodiscard]] constexpr bool contains(Range other) const { return start_ <= other.start_ && other.last_ <= last_; }
    [[nodiscard]] constexpr bool overlaps(Range other) const { return start_ <= other.last_ && other.start_ <= last_; }
    constexpr bool operator==(const Range&) const = default;

private:
    constexpr Range(A start, A last) : start_{start}, last_{last} {}
    A start_;
    A last_;
};

/// For constants whose bounds are literals: a wrong one does not compile.
template <class A> consteval Range<A> fixed_range(std::uint64_t start, std::uint64_t last) {
    return Range<A>::closed(A{start}, A{last}).value();
}

/// Ordered, non-overlapping ranges, each with a value. Not synchronised.
template <class A, class T> class RangeMap {
public:
    struct Entry {
        Range<A> range;
        T value;
    };

    /// False, and nothing changes, when the range overlaps an existing one.
    [[nodiscard]] bool insert(Range<A> range, T value) {
        if (overlap(range))
            return false;
        entries_.emplace(range.start(), Entry{range, std::move(value)});
        return true;
    }
    /// The entry that holds the whole of `range`, or null.
    [[nodiscard]] const Entry* find(Range<A> range) const {
        const Entry* entry = at_or_before(range.start());
        return entry && entry->range.contains(range) ? entry : nullptr;
    }
    [[nodiscard]] const Entry* find(A address) const {
        const Entry* entry = at_or_before(address);
        return entry && entry->range.contains(address) ? entry : nullptr;
    }
    /// The lowest entry that shares a byte with `range`, or null.
    [[nodiscard]] const Entry* overlap(Range<A> range) const {
        if (const Entry* entry = at_or_before(range.start()); entry && entry->range.overlaps(range))
            return entry;
        auto next = entries_.upper_bound(range.start());
        return next != entries_.end() && next->second.range.overlaps(range) ? &next->second : nullptr;
    }
    /// Removes the entry with exactly this range. False when there is none.
    bool erase(Range<A> range) {
        auto it = entries_.find(range.start());
        if (it == entries_.end() || it->second.range != range)
            return false;
        entries_.erase(it);
        return true;
    }
    template <class F> void for_each(F&& visit) const {
        for (const auto& [start, entry] : entries_)
            visit(entry);
    }
    [[nodiscard]] std::size_t size() const { return entries_.size(); }
    [[nodiscard]] bool empty() const { return entries_.empty(); }

private:
    [[nodiscard]] const Entry* at_or_before(A address) const {
        auto it = entries_.upper_bound(address);
        return it == entries_.begin() ? nullptr : &std::prev(it)->second;
    }
    std::map<A, Entry> entries_;
};

} // namespace inox
