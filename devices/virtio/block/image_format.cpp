// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/image_format.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string_view>

namespace inox::devices::virtio {
namespace {

using namespace std::string_view_literals;
using Bytes = std::span<const std::byte>;

constexpr const char* qemu = "qemu-img convert -O raw IN OUT";

struct Magic {
    std::size_t offset;
    std::string_view bytes;
    ForeignFormat format;
};

// QEMU's docs/interop and block/*.c; VMware's and Microsoft's format descriptions; RFC 1952, RFC 8878; 7-Zip's
// DOC/7zFormat.txt; Android's sparse_format.h.
constexpr Magic magics[] = {
    {0, "QFI\xfb"sv, {"qcow2", qemu}},
    {0, "QED\0"sv, {"QED", qemu}},
    {0, "vhdxfile"sv, {"VHDX", qemu}},
    {0, "conectix"sv, {"VHD", qemu}},
    {0, "KDMV"sv, {"VMDK", qemu}},
    {0, "COWD"sv, {"VMDK", qemu}},
    {0, "# Disk DescriptorFile"sv, {"VMDK", qemu}},
    {0x40, "\x7f\x10\xda\xbe"sv, {"VDI", qemu}},
    {0, "WithoutFreeSpace"sv, {"Parallels", qemu}},
    {0, "WithouFreSpacExt"sv, {"Parallels", qemu}},
    {0, "Bochs Virtual HD Image"sv, {"Bochs", "qemu-img convert -f bochs -O raw IN OUT"}},
    {0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop"sv, {"cloop", "qemu-img convert -f cloop -O raw IN OUT"}},
    {0, "\x3a\xff\x26\xed"sv, {"Android sparse image", "simg2img IN OUT"}},
    {0, "\x1f\x8b\x08"sv, {"gzip", "gunzip <IN >OUT"}},
    {0, "\x1f\x9d"sv, {"compress", "gunzip <IN >OUT"}},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     {"xz", "unxz <IN >OUT"}},
    {0, "LZIP\1"sv, {"lzip", "lzip -dc <IN >OUT"}},
    {0, "7z\xbc\xaf\x27\x1c"sv, {"7z", "7z x -so IN >OUT"}},
    {0, "Rar!\x1a\x07"sv, {"RAR", "unrar p -inul IN >OUT"}},
    {0, "\x28\xb5\x2f\xfd"sv, {"zstd", "unzstd <IN >OUT"}},
    {4, "1AY&SY"sv, {"bzip2", "bunzip2 <IN >OUT"}}, // after "BZh" and the level
    {0, "\x04\x22\x4d\x18"sv, {"lz4", "unlz4 <IN >OUT"}},
    {0, "PK\3\4"sv, {"zip", "funzip <IN >OUT"}},
    {0, "\x89LZO\0\r\n"sv, {"lzop", "lzop -dc <IN >OUT"}},
};

bool holds(Bytes place, std::size_t offset, std::string_view magic) {
    if (place.size() < offset + magic.size())
        return false;
    return std::ranges::equal(place.subspan(offset, magic.size()), magic,
                              [](std::byte a, char b) { return a == static_cast<std::byte>(b); });
}

template <std::endian order> std::uint64_t number(Bytes bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i)
        value =
            value << 8 | std::to_integer<std::uint64_t>(bytes[order == std::endian::big ? i : bytes.size() - 1 - i]);
    return value;
}

/// .lzma has no magic number. It begins with a byte of properties (0x5d in practice), a dictionary of 2^n or 2^n +
/// 2^(n-1) bytes, and a size of less than 256 GiB or unknown. XZ Utils' doc/lzma-file-format.txt, 1.1 and 4.
bool is_lzma(Bytes head) {
    constexpr std::size_t header = 13;
    if (head.size() < header || head[0] != std::byte{0x5d})
        return false;
    const auto dictionary = number<std::endian::little>(head.subspan(1, 4));
    const auto size = number<std::endian::little>(head.subspan(5, 8));
    const bool power = std::has_single_bit(dictionary) || (dictionary % 3 == 0 && std::has_single_bit(dictionary / 3));
    return power && dictionary >= 4096 && (size == UINT64_MAX || (size != 0 && size >> 38 == 0));
}

/// Apple's disk image ends with a block that begins with "koly". Its numbers are big-endian: the data's length at 32,
/// and at 492 the sectors that the data makes. An image that is not compressed is raw up to that block.
bool is_compressed_dmg(Bytes tail) {
    if (tail.size() != format_tail || !holds(tail, 0, "koly"))
        return false;
    return number<std::endian::big>(tail.subspan(32, 8)) != number<std::endian::big>(tail.subspan(492, 8)) * 512;
}

/// Quoted, so that a shell takes it for one word.
std::string quoted(const std::string& path) {
    std::string out = "'";
    for (const char c : path)
        out += c == '\'' ? std::string{"'\\''"} : std::string{c};
    return out + "'";
}

} // namespace

std::optional<ForeignFormat> foreign_format(Bytes head, Bytes tail) {
    const auto* found =
        std::ranges::find_if(magics, [&](const Magic& magic) { return holds(head, magic.offset, magic.bytes); });
    if (found != std::end(magics))
        return found->format;
    if (is_lzma(head))
        return ForeignFormat{"lzma", "unlzma <IN >OUT"};
    if (is_compressed_dmg(tail))
        return ForeignFormat{"compressed DMG", "qemu-img convert -f dmg -O raw IN OUT"};
    return std::nullopt;
}

std::string conversion_hint(const ForeignFormat& format, const std::string& path) {
    std::string command = format.converter;
    // Replaces from the end, so that a path that contains "IN" stays as it is.
    command.replace(command.rfind("OUT"), 3, quoted(path + ".raw"));
    command.replace(command.find("IN"), 2, quoted(path));
    return "make a raw image of it: " + command;
}

} // namespace inox::devices::virtio
