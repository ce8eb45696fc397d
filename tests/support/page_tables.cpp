// SPDX-License-Identifier: Apache-2.0
#include "tests/support/page_tables.hpp"

namespace inox::tests {

PageTables::PageTables(const GuestMemory& memory, std::uint64_t tables, unsigned levels)
    : memory_{memory}, root_{tables}, next_{tables}, levels_{levels} {
    (void)table();
}

void PageTables::map(std::uint64_t linear, std::uint64_t page, std::uint64_t bits, unsigned level) {
    set(linear, level, page | bits | (level > 1 ? std::uint64_t{large} : 0));
}

void PageTables::set(std::uint64_t linear, unsigned level, std::uint64_t value) {
    (void)memory_.write(entry(linear, level), value);
}

std::uint64_t PageTables::get(std::uint64_t linear, unsigned level) {
    return *memory_.read<std::uint64_t>(entry(linear, level));
}

Gpa PageTables::entry(std::uint64_t linear, unsigned level) {
    std::uint64_t at = root_;
    for (unsigned above = levels_;; --above) {
        const Gpa place{at + 8 * (linear >> (12 + 9 * (above - 1)) & 511)};
        if (above == level)
            return place;
        auto value = *memory_.read<std::uint64_t>(place);
        if ((value & present) == 0) {
            value = table() | all;
            (void)memory_.write(place, value);
        }
        at = value & 0x000f'ffff'ffff'f000;
    }
}

std::uint64_t PageTables::table() {
    const std::uint64_t page = next_;
    next_ += page_size;
    for (std::uint64_t i = 0; i < page_size; i += 8)
        (void)memory_.write(Gpa{page + i}, std::uint64_t{0});
    return page;
}

} // namespace inox::tests
