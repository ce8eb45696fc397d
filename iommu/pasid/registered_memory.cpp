// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/registered_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/bytes.hpp"

namespace inox::iommu {

std::optional<Range<RegisteredMemory::HostAddress>> RegisteredMemory::range_of(std::span<const std::byte> host) {
    return Range<HostAddress>::sized(HostAddress{reinterpret_cast<std::uintptr_t>(host.data())}, // NOLINT
                                     host.size());
}

Result<void> RegisteredMemory::add(std::span<std::byte> host, std::string name, RegisteredKind kind) {
    const auto range = range_of(host);
    if (!range || !is_aligned(range->start().raw() | host.size(), page_size))
        return fail(Errc::internal, name + " is not whole pages: no device can use it");
    const std::scoped_lock lock{mutex_};
    if (regions_.overlap(*range))
        return fail(Errc::already_exists, name + " is registered for DMA already");
    if (kind == RegisteredKind::ram && ::madvise(host.data(), host.size(), MADV_DONTFORK) != 0)
        return fail_errno(Errc::host_error, "madvise(MADV_DONTFORK) of " + name + " failed");
    if (owner_ == 0)
        owner_ = ::getpid();
    return regions_.insert(*range, {std::move(name), kind}) ? Result<void>{} : fail(Errc::internal, "overlap");
}

Result<void> RegisteredMemory::remove(std::span<std::byte> host) {
    const auto range = range_of(host);
    const std::scoped_lock lock{mutex_};
    const auto* entry = range ? regions_.find(*range) : nullptr;
    if (!entry || entry->range != *range)
        return fail(Errc::not_found, "memory that is not registered for DMA cannot be taken back");
    if (entry->value.uses != 0)
        return fail(Errc::in_use,
                    format("%s is in use by %llu DMA mappings", entry->value.name.c_str(),
                           static_cast<unsigned long long>(entry->value.uses)),
                    "the guest must give up its mappings first");
    if (entry->value.kind == RegisteredKind::ram)
        ::madvise(host.data(), host.size(), MADV_DOFORK);
    regions_.erase(*range);
    return {};
}

Result<void> RegisteredMemory::use(std::span<const std::byte> host) {
    const auto range = range_of(host);
    const std::scoped_lock lock{mutex_};
    const auto* entry = range ? regions_.find(*range) : nullptr;
    if (!entry)
        return fail(Errc::not_found, "this memory is not registered for DMA");
    if (::getpid() != owner_)
        return fail(Errc::wrong_state, "a child process may not map its parent's memory for DMA");
    ++entry->value.uses;
    if (entry->value.kind == RegisteredKind::ram)
        pinned_ += host.size();
    return {};
}

void RegisteredMemory::unuse(std::span<const std::byte> host) noexcept {
    const auto range = range_of(host);
    const std::scoped_lock lock{mutex_};
    const auto* entry = range ? regions_.find(*range) : nullptr;
    if (!entry || entry->value.uses == 0)
        return;
    --entry->value.uses;
    if (entry->value.kind == RegisteredKind::ram)
        pinned_ -= host.size();
}

std::uint64_t RegisteredMemory::uses(std::span<const std::byte> host) const {
    const auto range = range_of(host);
    const std::scoped_lock lock{mutex_};
    const auto* entry = range ? regions_.find(*range) : nullptr;
    return entry ? entry->value.uses : 0;
}

std::uint64_t RegisteredMemory::pinned() const {
    const std::scoped_lock lock{mutex_};
    return pinned_;
}

} // namespace inox::iommu
