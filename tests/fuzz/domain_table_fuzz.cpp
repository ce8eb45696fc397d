// SPDX-License-Identifier: Apache-2.0
// The table of mappings against a plain one: many small pages, so that chunks fill, split and join.
//
//   input   steps of three bytes: what, and a page number; runs of pages are put in or taken out
#include <algorithm>
#include <map>

#include "iommu/mapping_table.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/support/mapping_insert.hpp"

using namespace inox;

namespace {

using iommu::Mapping;
using IovaRange = Range<Iova>;
using fuzz::require;

constexpr std::uint64_t page = 0x1000;
constexpr std::size_t most_steps = 200;

IovaRange pages(std::uint64_t first, std::uint64_t count) {
    return *IovaRange::sized(Iova{first * page}, count * page);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    iommu::MappingTable table;
    std::map<std::uint64_t, std::uint64_t> model; // first page to last page
    const auto overlaps = [&](std::uint64_t first, std::uint64_t last) {
        auto next = model.upper_bound(last);
        return next != model.begin() && std::prev(next)->second >= first;
    };
    size = std::min(size, most_steps * 3);
    for (std::size_t at = 0; at + 3 <= size; at += 3) {
        const std::uint64_t first = (data[at + 1] | unsigned{data[at + 2]} << 8U) & 0x3fffU;
        const std::uint64_t count = (data[at] >> 2U) + 1;
        if ((data[at] & 1U) == 0) { // a run of single pages, or one large page
            const bool single = (data[at] & 2U) == 0;
            for (std::uint64_t i = 0; i < (single ? count : 1); ++i) {
                const std::uint64_t start = first + 2 * i;
                const std::uint64_t length = single ? 1 : count;
                const bool free = !overlaps(start, start + length - 1);
                require(tests::insert(table, {pages(start, length), Gpa{start * page}, 3}) == free);
                if (free)
                    model.emplace(start, start + length - 1);
            }
        } else {
            const std::uint64_t length = (data[at] & 2U) == 0 ? count : count * 64;
            const std::uint64_t last = first + length - 1;
            const auto begin = model.lower_bound(first);
            const auto end = model.upper_bound(last);
            const bool cut = (begin != model.begin() && std::prev(begin)->second >= first) ||
                             (end != begin && std::prev(end)->second > last);
            const auto inside = table.inside(pages(first, length));
            require(inside.cut == cut);
            if (cut)
                continue;
            require(inside.extent.has_value() == (begin != end));
            if (!inside.extent)
                continue;
            require(*inside.extent ==
                    *IovaRange::closed(Iova{begin->first * page}, Iova{std::prev(end)->second * page + page - 1}));
            const auto erased = static_cast<std::size_t>(std::distance(begin, end));
            model.erase(begin, end);
            require(table.erase(inside) == erased);
        }
        require(table.size() == model.size());
        const auto found = table.find(Iova{first * page});
        require(found.has_value() == overlaps(first, first));
    }
    auto expected = model.begin();
    table.visit(Iova{0}, [&](const Mapping& mapping) {
        require(expected != model.end() && mapping.range.start().raw() == expected->first * page &&
                mapping.range.last().raw() == expected->second * page + page - 1);
        ++expected;
        return true;
    });
    require(expected == model.end());
    return 0;
}
