// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/guest_memory.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/base/soft_limit.hpp"
#include "vmm/memory/huge_pages.hpp"
#include "vmm/memory/layout.hpp"
#include "vmm/memory/memory_limits.hpp"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41 // since Linux 5.17
#define PR_SET_VMA_ANON_NAME 0
#endif

namespace inox {
namespace {

Result<void> check_size(std::uint64_t size, HugePages huge_pages) {
    const std::uint64_t unit = huge_pages == HugePages::two_mib ? 2 * MiB : page_size;
    if (size < layout::min_ram || size > layout::max_ram)
        return fail(Errc::memory_invalid,
                    format("memory of %llu bytes is outside %llu KiB to %llu GiB",
                           static_cast<unsigned long long>(size),
                           static_cast<unsigned long long>(layout::min_ram / KiB),
                           static_cast<unsigned long long>(layout::max_ram / GiB)),
                    "give a size such as 512M or 4G");
    if (!is_aligned(size, unit))
        return fail(Errc::memory_invalid,
                    format("memory of %llu bytes is not a multiple of %llu KiB", static_cast<unsigned long long>(size),
                           static_cast<unsigned long long>(unit / KiB)),
                    "give whole MiB, even ones with 2M huge pages");
    return {};
}

Error no_huge_pages(std::uint64_t size, int error) {
    const auto pages = static_cast<unsigned long long>(size / huge_page_size);
    return {Errc::memory_unavailable,
            format("%llu huge pages of 2 MiB are not free", pages),
            format("reserve them: sudo sysctl vm.nr_hugepages=%llu (/proc/sys/vm/nr_hugepages), or use "
                   "transparent huge pages (%s)",
                   pages, memory_limits_text({}, HugePages::two_mib).c_str()),
            {},
            error};
}

/// `error`: the errno of the failure, as reading the limits changes errno.
Error no_memory(std::string what, bool hugetlb, int error) {
    return {Errc::memory_unavailable,
            std::move(what),
            "give the guest less memory, or free some on the host (" +
                memory_limits_text({}, hugetlb ? HugePages::two_mib : HugePages::none) + ")",
            {},
            error};
}
constexpr const char* memory_name = "inox-ram";

Result<UniqueFd> make_file(std::uint64_t size, bool hugetlb) {
    TRY_VOID(check_memory_file("the guest's memory", size));
    UniqueFd file{
        ::memfd_create(memory_name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (hugetlb ? MFD_HUGETLB | MFD_HUGE_2MB : 0U))};
    if (!file && hugetlb)
        return fail_errno(Errc::memory_unavailable, "memfd_create for guest memory failed",
                          "is hugetlbfs in the host's kernel (CONFIG_HUGETLBFS)? or use transparent huge pages");
    if (!file)
        return std::unexpected<Error>{no_memory("memfd_create for guest memory failed", hugetlb, errno)};
    if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
        return std::unexpected<Error>{no_memory("cannot size guest memory", hugetlb, errno)};
    // Another process gets this descriptor. If it made the file shorter, touching our mappings would kill inox.
    if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) // NOLINT(*-vararg)
        return fail_errno(Errc::memory_unavailable, "cannot seal the size of guest memory");
    return file;
}

} // namespace

Result<GuestMemory> GuestMemory::create(std::uint64_t size, HugePages huge_pages, Sharing sharing) {
    return create(size, huge_pages, sharing, layout::hole.start());
}

Result<GuestMemory> GuestMemory::create(std::uint64_t size, HugePages huge_pages, Sharing sharing, Gpa hole) {
    return make(size, huge_pages, huge_pages != HugePages::transparent || sharing == Sharing::needed, hole);
}

Result<GuestMemory> GuestMemory::restore(std::uint64_t size, HugePages huge_pages, Sharing sharing, Gpa hole,
                                         UniqueFd image) {
    const bool copied = huge_pages == HugePages::two_mib || sharing == Sharing::needed;
    auto memory = TRY(make(size, huge_pages, copied, hole));
    if (copied) {
        TRY_VOID(memory.copy_image(image.get()));
    } else {
        memory.image_ = std::move(image);
        TRY_VOID(memory.map_image());
    }
    return memory;
}

Result<GuestMemory> GuestMemory::awaiting(std::uint64_t size, HugePages huge_pages, Gpa hole) {
    auto memory = TRY(make(size, huge_pages, huge_pages == HugePages::two_mib, hole));
    memory.served_ = true;
    return memory;
}

/// In place of the mappings that are there.
Result<void> GuestMemory::map_image() {
    std::uint64_t offset = 0;
    for (const auto& region : regions_) {
        const auto size = region.host.size();
        if (::mmap(region.host.data(), size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                   image_.get(), static_cast<off_t>(offset)) == MAP_FAILED)
            return fail_errno(Errc::memory_unavailable, "cannot map the snapshot's memory",
                              "its file has to be on a file system that can map files");
        ::madvise(region.host.data(), size, MADV_DONTFORK);
        ::madvise(region.host.data(), size, MADV_DONTDUMP);
        if (huge_pages_ == HugePages::transparent)
            ::madvise(region.host.data(), size, MADV_HUGEPAGE);
        offset += size;
    }
    return {};
}

void GuestMemory::inherit() const noexcept {
    for (const auto& region : regions_)
        ::madvise(region.host.data(), region.host.size(), MADV_DOFORK);
}

Result<void> GuestMemory::copy_image(int image) {
    std::uint64_t offset = 0;
    for (const auto& region : regions_) {
        const auto end = offset + region.host.size();
        for (auto at = offset; at < end;) {
            const auto data = ::lseek(image, static_cast<off_t>(at), SEEK_DATA);
            if (data < 0 && errno == ENXIO)
                break; // only a hole is left
            if (data > 0)
                at = static_cast<std::uint64_t>(data);
            const auto hole = ::lseek(image, static_cast<off_t>(at), SEEK_HOLE);
            const auto last = hole < 0 ? end : std::min(static_cast<std::uint64_t>(hole), end);
            while (at < last) {
                const auto got = ::pread(image, region.host.data() + (at - offset), last - at, static_cast<off_t>(at));
                if (got < 0 && errno == EINTR)
                    continue;
                if (got <= 0)
                    return fail_errno(Errc::snapshot_missing, "cannot read the snapshot's memory");
                at += static_cast<std::uint64_t>(got);
            }
        }
        offset = end;
    }
    return {};
}

bool GuestMemory::discard(std::span<std::byte> pages) const noexcept {
    const bool discarded = give_back(pages);
    dirty_->mark_given_back(pages);
    return discarded;
}

bool GuestMemory::give_back(std::span<std::byte> pages) const noexcept {
    if (file_) // a hole in the file behind them: MADV_DONTNEED would only forget this process's view of it
        return ::madvise(pages.data(), pages.size(), MADV_REMOVE) == 0;
    if (!image_)
        return ::madvise(pages.data(), pages.size(), MADV_DONTNEED) == 0;
    // MADV_DONTNEED would bring back what the file has.
    if (::mmap(pages.data(), pages.size(), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return false;
    ::madvise(pages.data(), pages.size(), MADV_DONTFORK);
    ::madvise(pages.data(), pages.size(), MADV_DONTDUMP);
    return true;
}

Result<GuestMemory> GuestMemory::make(std::uint64_t size, HugePages huge_pages, bool file, Gpa hole) {
    TRY_VOID(check_size(size, huge_pages));
    GuestMemory memory;
    memory.size_ = size;
    memory.huge_pages_ = huge_pages;
    const bool hugetlb = huge_pages == HugePages::two_mib;
    if (file)
        memory.file_ = TRY(make_file(size, hugetlb));
    // mmap reserves the huge pages; otherwise their lack would kill the process at the first touch.
    const int flags = (memory.file_ ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | (hugetlb ? 0 : MAP_NORESERVE);

    const std::uint64_t low = std::min(size, hole.raw());
    auto add = [&](Gpa start, std::uint64_t bytes, std::uint64_t offset) -> Result<void> {
        // Aligned like file offsets and guest addresses, so that a huge page is one in every table, also KVM's.
        auto mapping = Mapping::create_aligned(huge_page_size, bytes, PROT_READ | PROT_WRITE, flags, memory.file_.get(),
                                               memory.file_ ? static_cast<std::int64_t>(offset) : 0);
        if (!mapping) {
            if (hugetlb)
                return std::unexpected(no_huge_pages(size, mapping.error().sys_errno));
            return std::unexpected<Error>{no_memory(mapping.error().what, hugetlb, mapping.error().sys_errno)};
        }
        // A child of this process must never get copies of pages that a device writes to.
        ::madvise(mapping->bytes().data(), bytes, MADV_DONTFORK);
        // Core dumps leave out the guest's memory: it is large, and not ours to show.
        ::madvise(mapping->bytes().data(), bytes, MADV_DONTDUMP);
        if (huge_pages == HugePages::transparent)
            ::madvise(mapping->bytes().data(), bytes, MADV_HUGEPAGE);
        if (!memory.file_) // for readers of /proc/PID/maps; some kernels cannot
            ::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, mapping->bytes().data(), bytes, memory_name);
        memory.regions_.push_back({*Range<Gpa>::sized(start, bytes), mapping->bytes(), offset});
        memory.mappings_.push_back(std::move(*mapping));
        return {};
    };
    TRY_VOID(add(Gpa{0}, low, 0));
    if (size > low)
        TRY_VOID(add(layout::ram_above_hole, size - low, low));
    memory.dirty_ = std::make_unique<DirtyPages>(TRY(DirtyPages::create(memory.regions_)));
    return memory;
}

std::optional<std::span<std::byte>> GuestMemory::host(Range<Gpa> range) const {
    for (const RamRegion& region : regions_)
        if (region.range.contains(range))
            return region.host.subspan(range.start().raw() - region.range.start().raw(), range.size());
    return std::nullopt;
}

std::optional<std::span<std::byte>> GuestMemory::host(Gpa start, std::uint64_t size) const {
    const auto range = Range<Gpa>::sized(start, size);
    return range ? host(*range) : std::nullopt;
}

bool GuestMemory::read(Gpa from, std::span<std::byte> to) const {
    if (to.empty())
        return true;
    const auto bytes = host(from, to.size());
    if (bytes)
        std::memcpy(to.data(), bytes->data(), to.size());
    return bytes.has_value();
}

bool GuestMemory::write(Gpa to, std::span<const std::byte> from) const {
    if (from.empty())
        return true;
    const auto bytes = host(to, from.size());
    if (!bytes)
        return false;
    std::memcpy(bytes->data(), from.data(), from.size());
    dirty_->mark(bytes->data(), bytes->size());
    return true;
}

} // namespace inox
