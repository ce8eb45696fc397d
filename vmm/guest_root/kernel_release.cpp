// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/kernel_release.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

#include "vmm/base/bytes.hpp"
#include "vmm/boot/bzimage.hpp"
#include "vmm/boot/elf.hpp"
#include "vmm/boot/gzip.hpp"
#include "vmm/boot/image.hpp"

namespace inox::guest_root {
namespace {

constexpr std::size_t longest = 64;              // __NEW_UTS_LEN
constexpr std::uint64_t version_pointer = 0x20e; // kernel_version of the setup header, boot protocol 2.00
constexpr std::uint64_t version_base = 0x200;
constexpr std::string_view banner = "Linux version "; // init/version.c; a digit follows where it is the banner
constexpr std::uint64_t searched = 256 * MiB;         // code and constants; debug information stands behind them

/// Up to the first blank; empty where it has what no release has, as it becomes a part of a path.
std::string first_word(std::string_view text) {
    const auto word = text.substr(0, text.find_first_of(std::string_view{" \0", 2}));
    const auto allowed = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
               c == '_' || c == '+' || c == '~';
    };
    const bool good =
        !word.empty() && word.size() <= longest && word.front() != '.' && std::ranges::all_of(word, allowed);
    return good ? std::string{word} : std::string{};
}

std::string text_at(const boot::Image& file, std::uint64_t offset) {
    std::string text(longest + 1, '\0');
    const auto there = file.size() > offset ? std::min<std::uint64_t>(text.size(), file.size() - offset) : 0;
    text.resize(there);
    if (!file.read(offset, std::as_writable_bytes(std::span{text})))
        text.clear();
    return text;
}

Result<std::string> from_banner(const boot::Image& file) {
    constexpr std::size_t piece = 4 * MiB;
    constexpr std::size_t overlap = banner.size() + longest + 1;
    std::string text;
    for (std::uint64_t at = 0; at < std::min(file.size(), searched);) {
        const auto size = std::min<std::uint64_t>(piece, file.size() - at);
        text.resize(size);
        if (auto read = file.read(at, std::as_writable_bytes(std::span{text})); !read) {
            TRY_VOID(file.check_wanted());
            return std::string{}; // of a packed file nobody knows the size beforehand
        }
        for (auto found = text.find(banner); found != text.npos; found = text.find(banner, found + 1))
            if (const auto rest = std::string_view{text}.substr(found + banner.size());
                !rest.empty() && rest.front() >= '0' && rest.front() <= '9')
                if (auto word = first_word(rest); !word.empty())
                    return word;
        if (size < piece)
            break;
        at += piece - overlap;
    }
    return std::string{};
}

Result<std::string> release_of(const boot::Image& file) {
    if (boot::is_bzimage(file)) {
        const auto pointer = file.read<Le16>(version_pointer);
        return !pointer || *pointer == 0 ? std::string{} : first_word(text_at(file, *pointer + version_base));
    }
    return boot::is_elf(file) ? from_banner(file) : std::string{};
}

} // namespace

Result<std::string> kernel_release(const std::string& kernel, const std::stop_token& stop) {
    const auto file = TRY(boot::Image::open(kernel, boot::Image::kernel, stop));
    if (!boot::is_gzip(file))
        return release_of(file);
    auto inside = TRY(boot::gunzip(file));
    TRY_VOID(inside.measure());
    return release_of(inside);
}

} // namespace inox::guest_root
