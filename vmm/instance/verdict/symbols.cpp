// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/symbols.hpp"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "vmm/base/hex.hpp"
#include "vmm/base/os.hpp"

namespace inox {
namespace {

/// A function may be this long; what is farther behind a symbol belongs to none.
constexpr std::uint64_t longest_function = 1 << 20;
/// Addresses of user space, and of per-CPU variables, which are linked at 0.
constexpr std::uint64_t first_of_kernel = 1ULL << 63;

constexpr boot::Image::Role role{"symbols", Errc::kernel_missing, Errc::kernel_invalid};
/// A symbol table is smaller than this, and so are all names together.
constexpr std::uint64_t most_bytes = 128 * MiB;
constexpr std::size_t longest_name = 512; // the kernel's KSYM_NAME_LEN

/// Empty when the file does not have them, or no longer.
std::string read_part(const boot::Image& file, std::uint64_t offset, std::uint64_t size) {
    std::string out(size <= most_bytes ? size : 0, '\0');
    return file.read(offset, std::as_writable_bytes(std::span{out})) ? out : std::string{};
}

std::unexpected<Error> no_symbols(const std::string& path) {
    return fail(Errc::kernel_invalid, path + " has no symbols of a kernel",
                "name a System.map, or a vmlinux that was not stripped");
}

} // namespace

Result<void> Symbols::check(const std::string& path) {
    TRY_VOID(boot::Image::open(path, role));
    return {};
}

Result<Symbols> Symbols::open(const std::string& path) {
    const auto file = TRY(boot::Image::open(path, role));
    Symbols symbols;
    if (read_part(file, 0, SELFMAG) == std::string_view{ELFMAG, SELFMAG})
        symbols.read_elf(file);
    else
        symbols.read_map(read_part(file, 0, file.size()));
    if (symbols.all_.empty())
        return no_symbols(path);
    symbols.finish();
    return symbols;
}

void Symbols::add(std::uint64_t address, std::string_view name) {
    name = name.substr(0, std::min(name.find('\0'), longest_name));
    if (address < first_of_kernel || name.empty() || all_.size() == most_symbols || names_.size() > most_bytes)
        return;
    all_.push_back({address, static_cast<std::uint32_t>(names_.size())});
    names_ += name;
    names_ += '\0';
}

void Symbols::finish() { std::ranges::stable_sort(all_, {}, &Symbol::address); }

/// "ffffffff81000000 T _stext"
void Symbols::read_map(std::string_view text) {
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        const auto line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        std::uint64_t address = 0;
        const auto [rest, error] = std::from_chars(line.data(), line.data() + line.size(), address, 16);
        const auto at = static_cast<std::size_t>(rest - line.data());
        if (error != std::errc{} || line.size() < at + 4 || line[at] != ' ' || line[at + 2] != ' ')
            continue;
        if (const char kind = line[at + 1]; kind == 'T' || kind == 't' || kind == 'W' || kind == 'w')
            add(address, line.substr(at + 3, line.find_first_of(" \t\r", at + 3) - (at + 3)));
    }
}

/// What is damaged leaves the rest unread.
void Symbols::read_elf(const boot::Image& file) {
    const auto header = file.read<Elf64_Ehdr>(0);
    if (!header || header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_shentsize != sizeof(Elf64_Shdr))
        return;
    const auto section = [&](std::uint64_t i) {
        return file.read<Elf64_Shdr>(header->e_shoff + i * sizeof(Elf64_Shdr));
    };
    for (std::uint64_t i = 0; i < header->e_shnum; ++i) {
        const auto table = section(i);
        if (!table)
            return;
        if (table->sh_type != SHT_SYMTAB)
            continue;
        const auto strings = section(table->sh_link);
        if (!strings)
            return;
        const auto names = read_part(file, strings->sh_offset, strings->sh_size);
        const auto symbols = read_part(file, table->sh_offset, table->sh_size);
        for (std::size_t at = 0; at + sizeof(Elf64_Sym) <= symbols.size(); at += sizeof(Elf64_Sym)) {
            Elf64_Sym symbol;
            std::memcpy(&symbol, symbols.data() + at, sizeof symbol);
            const auto kind = ELF64_ST_TYPE(symbol.st_info);
            if ((kind == STT_FUNC || kind == STT_NOTYPE) && symbol.st_shndx != SHN_UNDEF &&
                symbol.st_name < names.size())
                add(symbol.st_value, std::string_view{names}.substr(symbol.st_name, longest_name));
        }
        return; // a file has one
    }
}

std::optional<std::string> Symbols::at(std::uint64_t address) const {
    const auto next = std::ranges::upper_bound(all_, address, {}, &Symbol::address);
    if (next == all_.begin() || address - std::prev(next)->address > longest_function)
        return std::nullopt;
    const auto& symbol = *std::prev(next);
    return format("%s+%#llx", names_.c_str() + symbol.name, hex(address - symbol.address));
}

} // namespace inox
