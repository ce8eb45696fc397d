// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/loader.hpp"

#include <algorithm>

#include "vmm/boot/boot_info.hpp"
#include "vmm/boot/bzimage.hpp"
#include "vmm/boot/cpu_state.hpp"
#include "vmm/boot/elf.hpp"
#include "vmm/boot/file_kind.hpp"
#include "vmm/boot/gzip.hpp"
#include "vmm/boot/hello.hpp"
#include "vmm/boot/placement.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot {
namespace {

constexpr std::uint64_t bzimage_entry64 = 0x200;  // from the load address
constexpr std::uint32_t linux_max_cmdline = 2047; // what an ELF kernel cannot tell us

Result<void> check_cmdline(const LoadRequest& request, const std::string& kernel, std::uint64_t max) {
    max = std::min(max, layout::cmdline_capacity - 1);
    if (request.cmdline.size() <= max)
        return {};
    return fail(Errc::cmdline_too_long,
                format("the kernel command line has %zu bytes; %s takes %llu", request.cmdline.size(), kernel.c_str(),
                       static_cast<unsigned long long>(max)),
                "shorten it, or move settings into the initrd");
}

/// Copying from the page cache to the memfd without a mapping saves page faults and zeroing: it takes a third less time
/// than read() into small pages. Huge pages come only with page faults, so they are not filled this way.
bool send_into(const GuestMemory& memory, const Image& file, std::uint64_t offset, Range<Gpa> to) {
    if (!memory.shared() || memory.huge_pages() != HugePages::none)
        return false;
    for (const RamRegion& region : memory.regions())
        if (region.range.contains(to))
            return file.send(offset, to.size(), memory.fd(),
                             region.file_offset + (to.start().raw() - region.range.start().raw()));
    return false;
}

Result<void> read_into(const GuestMemory& memory, const Image& file, std::uint64_t offset, Gpa start,
                       std::uint64_t size) {
    const auto range = Range<Gpa>::sized(start, size);
    if (!range) // no bytes
        return {};
    if (send_into(memory, file, offset, *range))
        return {};
    const auto bytes = memory.host(*range);
    if (!bytes)
        return fail(Errc::internal, file.name() + ": a claimed range is not in guest memory");
    return file.read(offset, *bytes);
}

/// The result of loading any kind of kernel, with what the rest of the boot needs.
struct KernelLoaded {
    Loaded loaded;
    Gpa initrd_last{~std::uint64_t{0}};
    std::optional<BzImage> bzimage{};
};

Result<KernelLoaded> load_bzimage(const Image& kernel, const LoadRequest& request, const GuestMemory& memory,
                                  Placement& placement) {
    const BzImage image = TRY(parse_bzimage(kernel));
    TRY_VOID(check_cmdline(request, kernel.name(), image.max_cmdline_size));
    const auto range = TRY(placement.claim(image.load, image.memory_size, kernel.name(), Errc::kernel_does_not_fit));
    TRY_VOID(read_into(memory, kernel, image.payload_offset, image.load, image.payload_size));
    const Entry entry = image.entry64 ? Entry{Entry::Mode::linux64, image.load + bzimage_entry64, layout::boot_params}
                                      : Entry{Entry::Mode::linux32, image.load, layout::boot_params};
    return KernelLoaded{{KernelKind::bzimage, entry, range, {}}, image.initrd_last, image};
}

Result<KernelLoaded> load_elf(const Image& kernel, const LoadRequest& request, const GuestMemory& memory,
                              Placement& placement) {
    ElfImage image = TRY(parse_elf(kernel));
    TRY_VOID(check_cmdline(request, kernel.name(), linux_max_cmdline));
    Gpa first{~std::uint64_t{0}};
    Gpa last{0};
    // All claims before any read: a kernel that does not fit is refused at once.
    for (std::size_t i = 0; i < image.segments.size(); ++i) {
        const auto range = TRY(placement.claim(image.segments[i].start, image.segments[i].memory_size,
                                               kernel.name() + format(", segment %zu,", i), Errc::kernel_does_not_fit));
        first = std::min(first, range.start());
        last = std::max(last, range.last());
    }
    std::ranges::sort(image.segments, {}, &ElfSegment::offset); // in file order: an archive unpacks in one direction
    for (const ElfSegment& segment : image.segments)
        TRY_VOID(read_into(memory, kernel, segment.offset, segment.start, segment.file_size));
    const Entry entry = image.pvh_entry ? Entry{Entry::Mode::pvh32, *image.pvh_entry, layout::boot_params}
                                        : Entry{Entry::Mode::linux64, image.entry, layout::boot_params};
    const KernelKind kind = image.pvh_entry ? KernelKind::elf_pvh : KernelKind::elf64;
    return KernelLoaded{{kind, entry, *Range<Gpa>::closed(first, last), {}}};
}

Result<KernelLoaded> load_packed(const Image& kernel, const LoadRequest& request, const GuestMemory& memory,
                                 Placement& placement);

/// `unpacked`: it was in an archive; an archive inside an archive is refused.
Result<KernelLoaded> load_kernel(const Image& kernel, const LoadRequest& request, const GuestMemory& memory,
                                 Placement& placement, bool unpacked = false) {
    if (is_elf(kernel))
        return load_elf(kernel, request, memory, placement);
    if (is_bzimage(kernel))
        return load_bzimage(kernel, request, memory, placement);
    if (is_gzip(kernel) && !unpacked)
        return load_packed(kernel, request, memory, placement);
    const FileKind kind = file_kind(kernel);
    return kernel.invalid(std::string{"not a kernel inox can boot: "} + kind.name, kind.hint);
}

/// An ELF file is unpacked straight into guest memory, and the rest of the archive is read afterwards. Other files do
/// not say where they end, so they are measured first.
Result<KernelLoaded> load_packed(const Image& kernel, const LoadRequest& request, const GuestMemory& memory,
                                 Placement& placement) {
    Image inside = TRY(gunzip(kernel));
    if (!is_elf(inside))
        TRY_VOID(inside.measure());
    auto loaded = load_kernel(inside, request, memory, placement, true);
    if (loaded)
        TRY_VOID(inside.measure()); // reads to the end, where the checksum is
    return loaded;
}

Result<Loaded> finish(const GuestMemory& memory, const KernelLoaded& kernel, const LoadRequest& request) {
    const BootInfo info{kernel.loaded.initrd, request.cmdline};
    if (kernel.loaded.entry.mode == Entry::Mode::pvh32)
        TRY_VOID(write_start_info(memory, info));
    else
        TRY_VOID(write_boot_params(memory, info, kernel.bzimage ? &*kernel.bzimage : nullptr));
    TRY_VOID(write_boot_tables(memory, kernel.loaded.entry.mode));
    return kernel.loaded;
}

Result<Loaded> load_hello(const LoadRequest& request, const GuestMemory& memory) {
    if (!request.initrd.empty())
        return fail(Errc::kernel_missing, "an initrd is given, but no kernel", "name the kernel with --kernel");
    TRY_VOID(check_cmdline(request, "the built-in guest", layout::cmdline_capacity - 1));
    Placement placement{memory};
    const auto range =
        TRY(placement.claim(hello_start, hello_memory_size, "the built-in guest", Errc::kernel_does_not_fit));
    if (!memory.write(hello_start, hello_image()))
        return fail(Errc::internal, "the built-in guest does not fit guest memory");
    const Entry entry{Entry::Mode::linux64, hello_start, layout::boot_params};
    return finish(memory, {{KernelKind::hello, entry, range, {}}}, request);
}

} // namespace

Result<Loaded> load_images(const Image& kernel, const Image* initrd, const LoadRequest& request,
                           const GuestMemory& memory) {
    Placement placement{memory};
    auto loaded = load_kernel(kernel, request, memory, placement);
    TRY_VOID(kernel.check_wanted()); // a read that was stopped may look like any other fault
    KernelLoaded result = TRY(std::move(loaded));
    if (initrd) {
        const auto range =
            TRY(placement.claim_high(result.initrd_last, initrd->size(), initrd->name(), Errc::initrd_does_not_fit));
        TRY_VOID(read_into(memory, *initrd, 0, range.start(), initrd->size()));
        result.loaded.initrd = range;
    }
    return finish(memory, result, request);
}

Result<Loaded> load(const LoadRequest& request, const GuestMemory& memory) {
    if (request.kernel.empty())
        return load_hello(request, memory);
    const Image kernel = TRY(Image::open(request.kernel, Image::kernel, request.stop));
    if (request.initrd.empty())
        return load_images(kernel, nullptr, request, memory);
    const Image initrd = TRY(Image::open(request.initrd, Image::initrd, request.stop));
    return load_images(kernel, &initrd, request, memory);
}

} // namespace inox::boot
