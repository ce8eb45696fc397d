// SPDX-License-Identifier: Apache-2.0
// A guest's x86-64 page tables, as its kernel would build them.
#pragma once

#include <cstdint>

#include "vmm/base/bytes.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::fakes {

class PageTables {
public:
    enum Bits : std::uint64_t {
        present = 1,
        write = 2,
        user = 4,
        accessed = 0x20,
        dirty = 0x40,
        large = 0x80,
        no_execute = 1ULL << 63,
        all = present | write | user,
    };

    /// Tables are taken from `tables` upwards; the root is the first page.
    PageTables(const GuestMemory& memory, std::uint64_t tables, unsigned levels = 4)
        : memory_{memory}, root_{tables}, next_{tables}, levels_{levels} {
        (void)table();
    }

    [[nodiscard]] std::uint64_t root() const { return root_; }
    [[nodiscard]] unsigned levels() const { return levels_; }
    /// First address after the tables.
    [[nodiscard]] std::uint64_t end() const { return next_; }

    /// `level` 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB; levels above get all rights when they are made.
    void map(std::uint64_t linear, std::uint64_t page, std::uint64_t bits = all, unsigned level = 1) {
        set(linear, level, page | bits | (level > 1 ? std::uint64_t{large} : 0));
    }
    void set(std::uint64_t linear, unsigned level, std::uint64_t value) {
        (void)memory_.write(entry(linear, level), value);
    }
    [[nodiscard]] std::uint64_t get(std::uint64_t linear, unsigned level) {
        return *memory_.read<std::uint64_t>(entry(linear, level));
    }
    /// Where the entry of `level` for this address lies; makes the levels above.
    [[nodiscard]] Gpa entry(std::uint64_t linear, unsigned level) {
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

private:
    std::uint64_t table() {
        const std::uint64_t page = next_;
        next_ += page_size;
        for (std::uint64_t i = 0; i < page_size; i += 8)
            (void)memory_.write(Gpa{page + i}, std::uint64_t{0});
        return page;
    }

    const GuestMemory& memory_;
    std::uint64_t root_;
    std::uint64_t next_;
    unsigned levels_;
};

} // namespace inox::fakes
