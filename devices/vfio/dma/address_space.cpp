// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/address_space.hpp"

#include <bit>
#include <cerrno>

#include "devices/vfio/dma/resources.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/hex.hpp"

namespace inox::devices::vfio {
namespace {

/// A range in the kernel's terms. This is the only place where inclusive becomes base and size.
struct BaseAndSize {
    std::uint64_t base;
    std::uint64_t size;
};
/// Precondition: not the full space, whose size is 2^64.
BaseAndSize kernel_terms(IovaRange range) { return {range.start().raw(), range.size()}; }

constexpr std::uint64_t half = std::uint64_t{1} << 63;

std::string text(IovaRange range) { return format("0x%llx to 0x%llx", hex(range.start()), hex(range.last())); }

const char* kind_name(iommu::ReservedKind kind) {
    switch (kind) {
    case iommu::ReservedKind::msi:
        return "interrupts";
    case iommu::ReservedKind::direct:
        return "the host's firmware";
    case iommu::ReservedKind::reserved:
        break;
    }
    return "the host";
}

std::unexpected<Error> failed(Errc code, int error, std::string what, std::string hint = {}) {
    return std::unexpected{Error{code, std::move(what), std::move(hint), {}, -error}};
}

} // namespace

AddressSpace::~AddressSpace() {
    mappings_.for_each([&](const auto& entry) { resources_.memory.unuse(entry.value.host); });
}

Result<void> AddressSpace::check_map(IovaRange range, std::span<std::byte> host) const {
    const auto granule = page_sizes() == 0 ? page_size : std::uint64_t{1} << std::countr_zero(page_sizes());
    if (range.size_minus_one() != host.size() - 1)
        return fail(Errc::internal, "a DMA mapping is not as long as its memory");
    if (!is_aligned(range.start().raw() | host.size() | reinterpret_cast<std::uintptr_t>(host.data()), // NOLINT
                    granule))
        return fail(Errc::config_value, format("DMA mapping %s is not whole pages of %llu bytes", text(range).c_str(),
                                               static_cast<unsigned long long>(granule)));
    if (range.last().raw() > ~granule)
        return fail(Errc::config_value, "the last page of the 64-bit address space cannot be mapped for DMA");
    if (const auto* other = mappings_.overlap(range))
        return fail(Errc::already_exists,
                    "DMA mapping " + text(range) + " overlaps " + text(other->range) + " of " + name_);
    for (const auto& region : reserved())
        if (region.range.overlaps(range))
            return fail(Errc::config_value, "DMA mapping " + text(range) + " overlaps " + text(region.range) +
                                                ", which " + name_ + " keeps for " + kind_name(region.kind));
    for (const auto& aperture : apertures())
        if (aperture.contains(range))
            return {};
    return fail(Errc::config_value,
                "DMA mapping " + text(range) + " is beyond what the IOMMU of " + name_ + " can map");
}

Result<void> AddressSpace::check_budget(std::uint64_t size) const {
    const auto limit = mapping_limit();
    if (limit && mappings_.size() >= *limit)
        return fail(Errc::no_resource,
                    format("%s has all of its %llu DMA mappings in use; one more is needed", name_.c_str(),
                           static_cast<unsigned long long>(*limit)),
                    "raise dma_entry_limit of the module vfio_iommu_type1, or use the iommufd backend");
    return resources_.lock_limit.check(resources_.memory.pinned(), size, "DMA for " + name_);
}

Result<void> AddressSpace::map(IovaRange range, std::span<std::byte> host, Access access) {
    TRY_VOID(reserve(range, host));
    if (resources_.before_pinning)
        resources_.before_pinning(host);
    auto mapped = pin(range, host, access);
    if (!mapped)
        cancel(range);
    return mapped;
}

Result<void> AddressSpace::reserve(IovaRange range, std::span<std::byte> host) {
    TRY_VOID(check_map(range, host));
    TRY_VOID(check_budget(host.size()));
    TRY_VOID(resources_.memory.use(host));
    if (!mappings_.insert(range, {host})) // checked above
        return fail(Errc::internal, "DMA mapping " + text(range));
    return {};
}

Result<void> AddressSpace::unpin(IovaRange range) {
    const auto [base, size] = kernel_terms(range);
    if (const int error = kernel_unmap(base, size); error < 0)
        return failed(Errc::host_error, error, "unmapping " + text(range) + " in " + name_);
    return {};
}

Result<void> AddressSpace::pin(IovaRange range, std::span<std::byte> host, Access access) {
    const auto [base, size] = kernel_terms(range);
    const int error = kernel_map(base, size, host, access);
    const std::string what = "mapping " + text(range) + " for DMA in " + name_;
    switch (-error) {
    case 0:
        return {};
    case EEXIST:
        return failed(Errc::already_exists, error, what);
    case ENOSPC:
        return failed(Errc::no_resource, error, what, "raise dma_entry_limit of the module vfio_iommu_type1");
    case ENOMEM:
        return failed(Errc::no_resource, error, what,
                      raise_lock_limit_hint(resources_.memory.pinned()) + "; or the host is out of memory");
    case EINVAL:
        return failed(Errc::config_value, error, what);
    default:
        return failed(Errc::host_error, error, what);
    }
}

std::vector<IovaRange> AddressSpace::inside(IovaRange range) const {
    std::vector<IovaRange> found;
    std::optional<IovaRange> rest{range};
    while (rest) {
        const auto* entry = mappings_.overlap(*rest);
        if (!entry)
            break;
        found.push_back(entry->range);
        rest = entry->range.last() < range.last() ? IovaRange::closed(entry->range.last() + 1, range.last())
                                                  : std::nullopt;
    }
    return found;
}

Result<void> AddressSpace::unmap(IovaRange range) {
    const auto found = inside(range);
    if (found.empty())
        return {};
    if (!range.contains(found.front()) || !range.contains(found.back()))
        return fail(Errc::config_value, "unmapping " + text(range) + " would cut a DMA mapping of " + name_);
    int error = 0;
    if (range == IovaRange::full()) {
        error = unmap_everything();
    } else {
        // Not beyond the existing mappings, because some kernels handle an end at 2^64 wrongly.
        const auto [base, size] = kernel_terms(*IovaRange::closed(found.front().start(), found.back().last()));
        error = kernel_unmap(base, size);
        if (error == 0)
            forget(found);
    }
    if (error < 0)
        return failed(Errc::host_error, error, "unmapping " + text(range) + " in " + name_);
    return {};
}

/// Unmaps all at once where the kernel can; otherwise in two halves, because one size cannot express 2^64; otherwise,
/// when a mapping crosses the middle or the kernel refuses, one mapping after the other.
int AddressSpace::unmap_everything() {
    const auto all = inside(IovaRange::full());
    int error = kernel_unmap_all();
    if (error == -ENOTTY) {
        const auto* middle = mappings_.find(Iova{half});
        if (middle && middle->range.start().raw() < half)
            return unmap_one_by_one();
        error = kernel_unmap(0, half);
        if (error == 0)
            error = kernel_unmap(half, half);
    }
    if (error < 0)
        return unmap_one_by_one();
    forget(all);
    return 0;
}

int AddressSpace::unmap_one_by_one() {
    for (const auto& range : inside(IovaRange::full())) {
        const auto [base, size] = kernel_terms(range);
        if (const int error = kernel_unmap(base, size); error < 0)
            return error;
        forget({&range, 1});
    }
    return 0;
}

void AddressSpace::forget(std::span<const IovaRange> ranges) {
    for (const auto& range : ranges)
        if (const auto* entry = mappings_.find(range)) {
            resources_.memory.unuse(entry->value.host);
            mappings_.erase(range);
        }
}

} // namespace inox::devices::vfio
