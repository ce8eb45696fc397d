// SPDX-License-Identifier: Apache-2.0
// The names of a kernel's functions, from its System.map or its vmlinux.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/boot/image.hpp"

namespace inox {

class Symbols {
public:
    /// Whether there is a file to read; what is in it shows when it is needed.
    static Result<void> check(const std::string& path);
    /// System.map, what nm prints, or an ELF file with a symbol table. At most most_symbols of them are kept.
    /// kernel_missing, kernel_invalid.
    static Result<Symbols> open(const std::string& path);
    static constexpr std::size_t most_symbols = 4'000'000;

    /// "name+0x1a", of the function that holds this address as it was linked; nullopt: it is in none.
    [[nodiscard]] std::optional<std::string> at(std::uint64_t address) const;
    [[nodiscard]] std::size_t size() const { return all_.size(); }

private:
    struct Symbol {
        std::uint64_t address;
        std::uint32_t name; ///< offset into names_
    };
    void add(std::uint64_t address, std::string_view name);
    void finish();
    void read_map(std::string_view text);
    void read_elf(const boot::Image& file);

    std::vector<Symbol> all_{}; ///< ascending
    std::string names_{};       ///< each ends with a zero
};

} // namespace inox
