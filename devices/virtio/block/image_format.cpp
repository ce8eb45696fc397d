// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/image_format.hpp"

#include <algorithm>
#include <string_view>

namespace inox::devices::virtio {
namespace {

using namespace std::string_view_literals;

struct Magic {
    std::size_t offset;
    std::string_view bytes;
    const char* name;
    const char* unpacker{nullptr}; ///< of a compressed file; else qemu-img converts
};

// QEMU's docs/interop and block/*.c; VMware's and Microsoft's format descriptions; RFC 1952, RFC 8878.
constexpr Magic magics[] = {
    {0, "QFI\xfb"sv, "qcow2"},
    {0, "QED\0"sv, "QED"},
    {0, "vhdxfile"sv, "VHDX"},
    {0, "conectix"sv, "VHD"},
    {0, "KDMV"sv, "VMDK"},
    {0, "COWD"sv, "VMDK"},
    {0, "# Disk DescriptorFile"sv, "VMDK"},
    {0x40, "\x7f\x10\xda\xbe"sv, "VDI"},
    {0, "WithoutFreeSpace"sv, "Parallels"},
    {0, "WithouFreSpacExt"sv, "Parallels"},
    {0, "\x1f\x8b\x08"sv, "gzip", "gunzip"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "xz", "unxz"},
    {0, "\x28\xb5\x2f\xfd"sv, "zstd", "unzstd"},
    {4, "1AY&SY"sv, "bzip2", "bunzip2"}, // after "BZh" and the level
    {0, "\x04\x22\x4d\x18"sv, "lz4", "unlz4"},
    {0, "PK\3\4"sv, "zip", "funzip"},
    {0, "\x89LZO\0\r\n"sv, "lzop", "lzop -dc"},
};

bool matches(const Magic& magic, std::span<const std::byte> head) {
    if (head.size() < magic.offset + magic.bytes.size())
        return false;
    const auto bytes = head.subspan(magic.offset, magic.bytes.size());
    return std::ranges::equal(bytes, magic.bytes, [](std::byte a, char b) { return a == static_cast<std::byte>(b); });
}

} // namespace

std::optional<ForeignFormat> foreign_format(std::span<const std::byte> head) {
    const auto* found = std::ranges::find_if(magics, [&](const Magic& magic) { return matches(magic, head); });
    if (found == std::end(magics))
        return std::nullopt;
    return ForeignFormat{found->name, found->unpacker};
}

namespace {

/// As a shell takes it for one word.
std::string quoted(const std::string& path) {
    std::string out = "'";
    for (const char c : path)
        out += c == '\'' ? std::string{"'\\''"} : std::string{c};
    return out + "'";
}

} // namespace

std::string conversion_hint(const ForeignFormat& format, const std::string& path) {
    const std::string how = format.unpacker != nullptr
                                ? std::string{format.unpacker} + " <" + quoted(path) + " >" + quoted(path + ".raw")
                                : "qemu-img convert -O raw " + quoted(path) + " " + quoted(path + ".raw");
    return "make a raw image of it: " + how + "; or say format=raw if the guest shall see it as it is";
}

} // namespace inox::devices::virtio
