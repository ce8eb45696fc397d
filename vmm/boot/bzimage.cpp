// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/bzimage.hpp"

#include <algorithm>
#include <asm/bootparam.h>
#include <bit>
#include <cstring>

#include "vmm/memory/layout.hpp"

namespace inox::boot {
namespace {

using ull = unsigned long long;

constexpr std::uint64_t setup_header_offset = 0x1f1;
constexpr std::uint64_t sector = 512;
constexpr std::uint32_t hdrs_magic = 0x53726448; // "HdrS"
constexpr std::uint16_t boot_flag = 0xaa55;
constexpr std::uint64_t paragraph = 16; // what syssize counts
constexpr std::uint64_t entry64_offset = 0x200;

// Versions of the boot protocol, named by what each introduced.
constexpr std::uint16_t version_with_cmdline_size = 0x0206;
constexpr std::uint16_t version_with_payload = 0x0208;
constexpr std::uint16_t version_with_pref_address = 0x020a; // and init_size
constexpr std::uint16_t version_with_xloadflags = 0x020c;
constexpr const char* truncated = "the file is truncated or damaged: fetch or build it again";

static_assert(offsetof(boot_params, hdr) == setup_header_offset);
static_assert(sizeof(setup_header) == sizeof(BzImage::setup_header));

Result<setup_header> read_setup_header(const Image& file) {
    setup_header header{};
    // The second byte of the jump at 0x200 tells where the header ends; what is beyond is code.
    const auto jump = TRY(file.read<std::uint8_t>(0x201));
    const std::uint64_t size = std::min<std::uint64_t>(0x202U + jump - setup_header_offset, sizeof header);
    TRY_VOID(file.read(setup_header_offset, std::as_writable_bytes(std::span{&header, 1}).first(size)));
    return header;
}

Result<void> check_version(const Image& file, const setup_header& header) {
    if (header.boot_flag != boot_flag)
        return file.invalid(format("boot_flag at 0x1fe is 0x%04x, not 0xaa55", header.boot_flag), truncated);
    if (header.version < version_with_cmdline_size)
        return file.invalid(
            format("boot protocol %u.%02u at 0x206 is older than 2.06", header.version >> 8, header.version & 0xffU),
            "use Linux 2.6.22 or later");
    if ((header.loadflags & LOADED_HIGH) == 0)
        return file.invalid("loadflags at 0x211 asks for a load below 1 MiB (zImage)", "build a bzImage");
    return {};
}

bool has_entry64(const setup_header& header) {
    return header.version >= version_with_xloadflags && (header.xloadflags & XLF_KERNEL_64) != 0;
}

/// How much of the kernel the file has. syssize is rounded up, and some files end where the kernel does.
Result<std::uint64_t> payload_size(const Image& file, const setup_header& header, std::uint64_t offset) {
    const std::uint64_t told = std::uint64_t{header.syssize} * paragraph;
    const std::uint64_t there = file.size() > offset ? file.size() - offset : 0;
    if (told >= there + paragraph)
        return file.invalid(format("0x%llx bytes, but setup_sects (0x1f1) and syssize (0x1f4) say 0x%llx",
                                   ull{file.size()}, ull{offset + told}),
                            truncated);
    const std::uint64_t size = std::min(told, there);
    if (size <= (has_entry64(header) ? entry64_offset : 0))
        return file.invalid(format("syssize at 0x1f4 is %u: no room for the entry", header.syssize), truncated);
    if (header.version >= version_with_payload && std::uint64_t{header.payload_offset} + header.payload_length > size)
        return file.invalid("payload_offset at 0x248 and payload_length point beyond the kernel", truncated);
    return size;
}

/// The kernel's preferred address; if that is below 1 MiB and the kernel can be moved, the first aligned one above.
Result<Gpa> choose_load_address(const Image& file, const setup_header& header) {
    if (header.version < version_with_pref_address) {
        if (header.code32_start < layout::high_ram.raw())
            return file.invalid(format("code32_start at 0x214 is 0x%x, below 1 MiB", header.code32_start), truncated);
        return Gpa{header.code32_start};
    }
    const std::uint64_t alignment = header.kernel_alignment;
    if (!std::has_single_bit(alignment))
        return file.invalid(format("kernel_alignment at 0x230 is 0x%llx, not a power of two", ull{alignment}),
                            truncated);
    if (header.pref_address >= layout::high_ram.raw())
        return Gpa{header.relocatable_kernel ? align_up(header.pref_address, alignment) : header.pref_address};
    if (!header.relocatable_kernel)
        return file.invalid(format("pref_address at 0x258 is 0x%llx, below 1 MiB, and the kernel is not relocatable",
                                   ull{header.pref_address}),
                            "build it with CONFIG_RELOCATABLE");
    return Gpa{align_up(layout::high_ram.raw(), alignment)};
}

} // namespace

bool is_bzimage(const Image& file) {
    const auto magic = file.read<Le32>(offsetof(boot_params, hdr.header));
    return magic && *magic == hdrs_magic;
}

Result<BzImage> parse_bzimage(const Image& file) {
    const setup_header header = TRY(read_setup_header(file));
    TRY_VOID(check_version(file, header));

    BzImage image;
    std::memcpy(image.setup_header.data(), &header, sizeof header);
    image.payload_offset = ((header.setup_sects == 0 ? 4 : header.setup_sects) + 1U) * sector;
    image.payload_size = TRY(payload_size(file, header, image.payload_offset));
    image.entry64 = has_entry64(header);
    image.load = TRY(choose_load_address(file, header));
    const std::uint64_t init_size = header.version >= version_with_pref_address ? header.init_size : 0;
    image.memory_size = std::max(image.payload_size, init_size);
    image.initrd_last = Gpa{header.initrd_addr_max};
    image.max_cmdline_size = header.cmdline_size;
    return image;
}

} // namespace inox::boot
