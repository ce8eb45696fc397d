// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/file_kind.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace inox::boot {
namespace {

struct Magic {
    std::uint64_t offset;
    std::string_view bytes;
    FileKind kind;
};

using namespace std::string_view_literals;
constexpr const char* x86_kernel = "give an x86-64 kernel";
constexpr Magic magics[] = {
    {0, "\x1f\x8b"sv, {"a gzip archive", "it holds another archive: unpack it with zcat"}},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     {"an xz archive", "unpack it first: xzcat FILE > vmlinux"}},
    {0, "\x28\xb5\x2f\xfd"sv, {"a zstd archive", "unpack it first: zstdcat FILE > vmlinux"}},
    {0, "\x02\x21\x4c\x18"sv, {"an lz4 archive", "unpack it first: lz4cat FILE > vmlinux"}},
    {0, "\x04\x22\x4d\x18"sv, {"an lz4 archive", "unpack it first: lz4cat FILE > vmlinux"}},
    {0, "BZh"sv, {"a bzip2 archive", "unpack it first: bzcat FILE > vmlinux"}},
    {0, "070701"sv, {"a cpio archive", "an initramfs goes to --initrd, the kernel to --kernel"}},
    {0,
     "!<arch>\n"sv,
     {"a Debian package or ar archive", "unpack it first: dpkg-deb -x FILE DIR; then DIR/boot/vmlinuz-*"}},
    {56, "ARM\x64"sv, {"an arm64 kernel Image", x86_kernel}},
    {36, "\x18\x28\x6f\x01"sv, {"a 32-bit ARM zImage", x86_kernel}},
    {48, "RISCV"sv, {"a RISC-V kernel Image", x86_kernel}},
    {0, "MZ"sv, {"an EFI program without a Linux setup header", "give the bzImage or vmlinux itself"}},
    {0, "#!"sv, {"a script", "give the bzImage or vmlinux itself"}},
};

} // namespace

FileKind file_kind(const Image& file) {
    std::array<char, 64> start{};
    const std::size_t size = std::min<std::uint64_t>(start.size(), file.size());
    if (file.read(0, std::as_writable_bytes(std::span{start}).first(size))) {
        const std::string_view text{start.data(), size};
        for (const Magic& magic : magics)
            if (magic.offset < text.size() && text.substr(magic.offset).starts_with(magic.bytes))
                return magic.kind;
    }
    return {"neither an ELF vmlinux nor a bzImage", "give a vmlinux or a bzImage (Debian: /boot/vmlinuz-*)"};
}

} // namespace inox::boot
