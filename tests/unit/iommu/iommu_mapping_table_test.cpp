// SPDX-License-Identifier: Apache-2.0
#include "iommu/mapping_table.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <ranges>
#include <vector>

#include "tests/catch.hpp"
#include "tests/support/mapping_insert.hpp"

namespace inox::iommu_mapping_table_test {

using iommu::Mapping;
using iommu::MappingTable;
using IovaRange = Range<Iova>;

namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t top = ~std::uint64_t{0};

IovaRange closed(std::uint64_t start, std::uint64_t last) { return *IovaRange::closed(Iova{start}, Iova{last}); }
/// Pages first..last, mapped to the same physical pages.
Mapping pages(std::uint64_t first, std::uint64_t last) {
    return {closed(first * page, last * page + page - 1), Gpa{first * page}, 3};
}
IovaRange page_range(std::uint64_t first, std::uint64_t last) { return pages(first, last).range; }

std::vector<Mapping> all(const MappingTable& table) {
    std::vector<Mapping> out;
    table.visit(Iova{0}, [&](const Mapping& mapping) {
        out.push_back(mapping);
        return true;
    });
    return out;
}

/// The same table, made as simply as possible.
struct Model {
    std::map<std::uint64_t, Mapping> entries{};

    [[nodiscard]] std::vector<Mapping> overlapping(IovaRange range) const {
        std::vector<Mapping> out;
        for (const auto& [start, mapping] : entries)
            if (mapping.range.overlaps(range))
                out.push_back(mapping);
        return out;
    }
    [[nodiscard]] bool cuts(IovaRange range) const {
        return std::ranges::any_of(overlapping(range), [&](const Mapping& one) { return !range.contains(one.range); });
    }
};

} // namespace

TEST_CASE("a mapping is found by every address in it and by no other") {
    MappingTable table;
    REQUIRE(tests::insert(table, {closed(0x1000, 0x2fff), Gpa{0x9000}, 1}));
    CHECK_FALSE(table.find(Iova{0xfff}));
    CHECK(table.find(Iova{0x1000}) == Mapping{closed(0x1000, 0x2fff), Gpa{0x9000}, 1});
    CHECK(table.find(Iova{0x2fff}));
    CHECK_FALSE(table.find(Iova{0x3000}));
}

TEST_CASE("overlapping ranges are refused, touching ones are not, and nothing is merged") {
    MappingTable table;
    REQUIRE(tests::insert(table, pages(10, 19)));
    for (const auto& [first, last] : {std::pair{10, 19}, {5, 10}, {19, 30}, {12, 13}, {0, 100}}) {
        CHECK_FALSE(tests::insert(table, pages(static_cast<unsigned>(first), static_cast<unsigned>(last))));
        CHECK(table.overlaps(page_range(static_cast<unsigned>(first), static_cast<unsigned>(last))));
    }
    CHECK(tests::insert(table, pages(0, 9)));
    CHECK(tests::insert(table, pages(20, 20)));
    CHECK(table.size() == 3);
    CHECK_FALSE(table.overlaps(page_range(21, 1000)));
}

TEST_CASE("the last byte of the space can be mapped, and everything erased at once") {
    MappingTable table;
    REQUIRE(tests::insert(table, {closed(top - 0xfff, top), Gpa{0}, 3}));
    REQUIRE(tests::insert(table, {closed(0, 0xfff), Gpa{0}, 3}));
    CHECK(table.find(Iova{top}));
    CHECK_FALSE(table.find(Iova{top - 0x1000}));
    CHECK_FALSE(tests::insert(table, {closed(0, top), Gpa{0}, 3}));
    const auto inside = table.inside(IovaRange::full());
    CHECK_FALSE(inside.cut);
    REQUIRE(inside.extent == IovaRange::full());
    CHECK(table.erase(inside) == 2);
    CHECK(table.empty());
    CHECK(table.memory() == 0);
    REQUIRE(tests::insert(table, {closed(0, top), Gpa{0}, 3}));
    CHECK(table.inside(closed(1, top)).cut);
    CHECK(table.inside(closed(0, top - 1)).cut);
    CHECK(table.erase(table.inside(closed(0, top))) == 1);
}

TEST_CASE("random inserts and erases agree with a plain model") {
    const auto seed = GENERATE(1U, 2U, 3U);
    std::mt19937_64 random{seed};
    MappingTable table;
    Model model;
    const std::uint64_t space = seed == 3 ? 100000 : 3000; // once sparse, otherwise crowded
    for (int step = 0; step < 6000; ++step) {
        const std::uint64_t first = random() % space;
        const bool growing = step / 1500 % 2 == 0;
        if (random() % 100 < (growing ? 85U : 30U)) {
            const Mapping mapping = pages(first, first + random() % 3);
            const bool free = model.overlapping(mapping.range).empty();
            REQUIRE(table.overlaps(mapping.range) == !free);
            REQUIRE(tests::insert(table, mapping) == free);
            if (free)
                model.entries.emplace(mapping.range.start().raw(), mapping);
        } else {
            const auto range = page_range(first, first + random() % (step % 50 == 0 ? space : 8));
            const auto found = table.inside(range);
            REQUIRE(found.cut == model.cuts(range));
            if (model.cuts(range))
                continue;
            const auto inside = model.overlapping(range);
            REQUIRE(found.extent.has_value() == !inside.empty());
            if (!found.extent)
                continue;
            REQUIRE(*found.extent == closed(inside.front().range.start().raw(), inside.back().range.last().raw()));
            REQUIRE(table.erase(found) == inside.size());
            for (const auto& mapping : inside)
                model.entries.erase(mapping.range.start().raw());
        }
        const Iova probe{random() % space * page};
        const auto there = model.overlapping(closed(probe.raw(), probe.raw()));
        REQUIRE(table.find(probe) == (there.empty() ? std::nullopt : std::optional{there.front()}));
        REQUIRE(table.size() == model.entries.size());
        if (step % 200 == 0) {
            const auto listed = all(table);
            REQUIRE(std::ranges::equal(listed, model.entries | std::views::values));
        }
    }
}

TEST_CASE("visiting starts where it is told") {
    MappingTable table;
    for (std::uint64_t i = 0; i < 1000; ++i)
        REQUIRE(tests::insert(table, pages(i * 2, i * 2)));
    std::vector<std::uint64_t> seen;
    table.visit(Iova{1001 * page}, [&](const Mapping& mapping) {
        seen.push_back(mapping.range.start().raw() / page);
        return seen.size() < 3;
    });
    CHECK(seen == std::vector<std::uint64_t>{1002, 1004, 1006});
}

TEST_CASE("a mapping takes at most 96 bytes, however they came and went") {
    std::mt19937_64 random{7};
    MappingTable table;
    const auto order = GENERATE(0, 1, 2);
    constexpr std::uint64_t count = 50000;
    for (std::uint64_t i = 0; i < count; ++i)
        if (order != 2)
            (void)tests::insert(table, pages(order == 0 ? i : count - i, order == 0 ? i : count - i));
    if (order == 2)
        while (table.size() < count) {
            const auto at = random() % (count * 4);
            (void)tests::insert(table, pages(at, at));
        }
    CHECK(table.memory() <= 96 * table.size());
    for (std::uint64_t i = 0; i < count * 4; ++i) { // leaves one in ten
        const auto found = table.inside(page_range(i, i));
        if (i % 10 != 0 && found.extent)
            (void)table.erase(found);
    }
    CHECK(table.size() > 1000);
    CHECK(table.memory() <= 96 * table.size());
}

} // namespace inox::iommu_mapping_table_test
