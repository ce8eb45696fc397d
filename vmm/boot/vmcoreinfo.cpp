// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/vmcoreinfo.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "vmm/memory/touched_pages.hpp"

namespace inox::boot {
namespace {

constexpr std::size_t longest_text = page_size; // a page of the kernel's, by its own rule
constexpr std::string_view note_name{"VMCOREINFO\0", 11};
constexpr std::size_t name_room = 12;
constexpr std::string_view first_key = "OSRELEASE=";

/// The header of an ELF note.
struct NoteHeader {
    std::uint32_t name_size;
    std::uint32_t text_size;
    std::uint32_t type;
};

/// The text of the note at the start of `bytes`, which the guest may be changing: copied first, then looked at.
std::optional<std::string> note_at(std::span<const std::byte> bytes) {
    NoteHeader header{};
    constexpr std::size_t text_at = sizeof header + name_room;
    if (bytes.size() < text_at)
        return std::nullopt;
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.name_size != note_name.size() || header.type != 0 || header.text_size < first_key.size() ||
        header.text_size > std::min(longest_text, bytes.size() - text_at) ||
        std::memcmp(bytes.data() + sizeof header, note_name.data(), note_name.size()) != 0)
        return std::nullopt;
    std::string text(header.text_size, '\0');
    std::memcpy(text.data(), bytes.data() + text_at, text.size());
    if (!text.starts_with(first_key))
        return std::nullopt;
    return text;
}

std::optional<std::string> find_in(std::span<const std::byte> ram) {
    std::optional<std::string> found;
    static_cast<void>(for_each_touched(ram, [&](std::span<const std::byte> run) {
        const auto rest = ram.subspan(static_cast<std::size_t>(run.data() - ram.data()));
        for (std::size_t at = 0; at < run.size() && !found; at += page_size)
            found = note_at(rest.subspan(at, std::min(2 * page_size, rest.size() - at)));
        return !found;
    }));
    return found;
}

} // namespace

std::optional<std::string> find_vmcoreinfo(const GuestMemory& memory) {
    for (const auto& region : memory.regions())
        if (auto text = find_in(region.host))
            return text;
    return std::nullopt;
}

std::optional<std::string_view> vmcoreinfo_value(std::string_view info, std::string_view key) {
    while (!info.empty()) {
        const auto end = std::min(info.find('\n'), info.size());
        const auto line = info.substr(0, end);
        info.remove_prefix(std::min(end + 1, info.size()));
        if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == '=')
            return line.substr(key.size() + 1);
    }
    return std::nullopt;
}

std::optional<std::uint64_t> vmcoreinfo_number(std::string_view info, std::string_view key) {
    const auto text = vmcoreinfo_value(info, key);
    std::uint64_t value = 0;
    if (!text || std::from_chars(text->data(), text->data() + text->size(), value, 16).ec != std::errc{})
        return std::nullopt;
    return value;
}

} // namespace inox::boot
