// SPDX-License-Identifier: Apache-2.0
// A guest's x86-64 page tables, as its kernel would build them.
#pragma once

#include <cstdint>

#include "vmm/base/bytes.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::tests {

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
    PageTables(const GuestMemory& memory, std::uint64_t tables, unsigned levels = 4);

    [[nodiscard]] std::uint64_t root() const { return root_; }
    [[nodiscard]] unsigned levels() const { return levels_; }
    /// First address after the tables.
    [[nodiscard]] std::uint64_t end() const { return next_; }

    /// `level` 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB; levels above get all rights when they are made.
    void map(std::uint64_t linear, std::uint64_t page, std::uint64_t bits = all, unsigned level = 1);
    void set(std::uint64_t linear, unsigned level, std::uint64_t value);
    [[nodiscard]] std::uint64_t get(std::uint64_t linear, unsigned level);
    /// Where the entry of `level` for this address lies; makes the levels above.
    [[nodiscard]] Gpa entry(std::uint64_t linear, unsigned level);

private:
    std::uint64_t table();

    const GuestMemory& memory_;
    std::uint64_t root_;
    std::uint64_t next_;
    unsigned levels_;
};

} // namespace inox::tests
