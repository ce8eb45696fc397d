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

/// A symbol table is smaller than this.
constexpr std::uint64_t most_bytes = 512 << 20;

/// Bytes of a file that may change meanwhile; empty when they are not there.
std::string read_part(int file, std::uint64_t offset, std::uint64_t size) {
    if (size > most_bytes)
        return {};
    std::string out(size, '\0');
    std::size_t done = 0;
    while (done < out.size()) {
        const auto count = ::pread(file, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return {};
        done += static_cast<std::size_t>(count);
    }
    return out;
}

template <class T> std::optional<T> read_at(int file, std::uint64_t offset) {
    T value{};
    const auto bytes = read_part(file, offset, sizeof value);
    if (bytes.empty())
        return std::nullopt;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

std::unexpected<Error> no_symbols(const std::string& path) {
    return fail(Errc::kernel_invalid, path + " has no symbols of a kernel",
                "name a System.map, or a vmlinux that was not stripped");
}

} // namespace

Result<Symbols> Symbols::open(const std::string& path) {
    const auto file = TRY(open_file(path, O_RDONLY, Errc::kernel_missing));
    const auto size = TRY(file_size(file.get()));
    const bool elf = read_part(file.get(), 0, SELFMAG) == std::string_view{ELFMAG, SELFMAG};
    Symbols symbols;
    if (elf)
        symbols.read_elf(file.get());
    else
        symbols.read_map(read_part(file.get(), 0, size));
    if (symbols.all_.empty())
        return no_symbols(path);
    symbols.finish();
    return symbols;
}

void Symbols::add(std::uint64_t address, std::string_view name) {
    if (address < first_of_kernel || name.empty() || all_.size() == most_symbols)
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
void Symbols::read_elf(int file) {
    const auto header = read_at<Elf64_Ehdr>(file, 0);
    if (!header || header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_shentsize != sizeof(Elf64_Shdr))
        return;
    const auto section = [&](std::uint64_t i) {
        return read_at<Elf64_Shdr>(file, header->e_shoff + i * sizeof(Elf64_Shdr));
    };
    for (std::uint64_t i = 0; i < header->e_shnum; ++i) {
        const auto table = section(i);
        if (!table)
            return;
        const auto strings = table->sh_type == SHT_SYMTAB ? section(table->sh_link) : std::nullopt;
        if (!strings)
            continue;
        const auto names = read_part(file, strings->sh_offset, strings->sh_size);
        const auto symbols = read_part(file, table->sh_offset, table->sh_size);
        for (std::size_t at = 0; at + sizeof(Elf64_Sym) <= symbols.size(); at += sizeof(Elf64_Sym)) {
            Elf64_Sym symbol;
            std::memcpy(&symbol, symbols.data() + at, sizeof symbol);
            const auto kind = ELF64_ST_TYPE(symbol.st_info);
            if ((kind == STT_FUNC || kind == STT_NOTYPE) && symbol.st_shndx != SHN_UNDEF &&
                symbol.st_name < names.size())
                add(symbol.st_value, std::string_view{names.c_str() + symbol.st_name});
        }
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
