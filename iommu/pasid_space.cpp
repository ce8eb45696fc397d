// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid_space.hpp"

#include <algorithm>

#include "vmm/base/bytes.hpp"

namespace iommu {
namespace {

using vmm::Access;
using vmm::Gpa;

/// A request longer than any device makes is refused before it can make us walk for minutes.
constexpr std::uint64_t longest_request = vmm::GiB;

// Low bits of a cached value; the rest is the page's address.
constexpr std::uint64_t line_valid = 1;
constexpr std::uint64_t line_write = 2;
constexpr std::uint64_t line_user = 4;
constexpr std::uint64_t line_dirty = 8;
constexpr std::uint64_t line_flags = vmm::page_size - 1;

Paging paging_of(const PageTable& table) {
    Paging paging;
    paging.root = table.root;
    paging.five_levels = table.five_levels;
    paging.write_protect = table.write_protect;
    paging.execute_disable = table.execute_disable;
    return paging;
}

} // namespace

PasidSpace::PasidSpace(const vmm::GuestMemory& memory, Name name, const PageTable& table, PasidFaultSink sink)
    : memory_{memory}, name_{name}, table_{table}, paging_{paging_of(table)}, sink_{std::move(sink)} {}

vmm::DmaMemory::Hold PasidSpace::hold() const {
    const std::lock_guard wait_your_turn{turnstile_};
    return vmm::DmaMemory::Hold{std::shared_lock{holds_}};
}

void PasidSpace::drain() noexcept { invalidate({}); }

void PasidSpace::invalidate(std::optional<vmm::Range<vmm::Iova>> range) noexcept {
    const std::lock_guard first{turnstile_};
    const std::lock_guard alone{holds_};
    generation_.fetch_add(1, std::memory_order_release);
    // One address of a large page stands for all of it, and lines do not say which page they were part of.
    if (large_.exchange(false))
        range.reset();
    const std::uint64_t pages = range ? range->size_minus_one() / vmm::page_size + 2 : line_count;
    const std::uint64_t start = range ? range->start().raw() / vmm::page_size : 0;
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(pages, line_count); ++i) {
        auto& line = lines_[(start + i) % line_count];
        line.value.store(0, std::memory_order_relaxed);
        line.key.store(0, std::memory_order_relaxed);
    }
}

std::optional<Gpa> PasidSpace::cached(std::uint64_t at, PageAccess access) const noexcept {
    const std::uint64_t page = at / vmm::page_size;
    const auto& line = lines_[page % line_count];
    const std::uint64_t value = line.value.load(std::memory_order_relaxed);
    if ((value & line_valid) == 0 || (line.key.load(std::memory_order_relaxed) ^ value) != page)
        return std::nullopt;
    if (access.user && (value & line_user) == 0)
        return std::nullopt;
    if (access.write &&
        ((value & line_dirty) == 0 || ((value & line_write) == 0 && (access.user || paging_.write_protect))))
        return std::nullopt;
    return Gpa{(value & ~line_flags) | (at & line_flags)};
}

void PasidSpace::remember(std::uint64_t at, const PageMapping& mapping) const noexcept {
    const std::uint64_t value = (mapping.address.raw() & ~line_flags) | line_valid |
                                (mapping.writable ? line_write : 0) | (mapping.user ? line_user : 0) |
                                (mapping.dirty ? line_dirty : 0);
    const std::uint64_t page = at / vmm::page_size;
    if (mapping.page_bits != 12)
        large_.store(true, std::memory_order_relaxed);
    auto& line = lines_[page % line_count];
    line.value.store(value, std::memory_order_relaxed);
    line.key.store(page ^ value, std::memory_order_relaxed);
}

std::uint64_t PasidSpace::append(std::uint64_t at, std::uint64_t most, Access access, bool privileged,
                                 PageWalker& walker, std::vector<iovec>& out) const noexcept {
    const bool reads = (static_cast<unsigned>(access) & static_cast<unsigned>(Access::read)) != 0;
    const bool writes = (static_cast<unsigned>(access) & static_cast<unsigned>(Access::write)) != 0;
    const Access failed = writes && !reads ? Access::write : access;
    const PageAccess wanted{.write = writes, .user = !privileged};
    Gpa address;
    std::uint64_t size = vmm::page_size - at % vmm::page_size;
    if (const auto known = cached(at, wanted)) {
        hits_.fetch_add(1, std::memory_order_relaxed);
        address = *known;
    } else {
        walks_.fetch_add(1, std::memory_order_relaxed);
        const auto mapping = walker.walk(at, wanted);
        if (!mapping) {
            report(at, failed, privileged, mapping.error().cause);
            return 0;
        }
        remember(at, *mapping);
        address = mapping->address;
        size = (1ULL << mapping->page_bits) - (at & ((1ULL << mapping->page_bits) - 1));
    }
    size = std::min(size, most);
    const auto bytes = memory_.host(address, size);
    if (!bytes) {
        report(at, failed, privileged, PageFault::Cause::outside_ram);
        return 0;
    }
    if (!out.empty() && static_cast<std::byte*>(out.back().iov_base) + out.back().iov_len == bytes->data())
        out.back().iov_len += bytes->size();
    else
        out.push_back({bytes->data(), bytes->size()});
    return size;
}

bool PasidSpace::translate(vmm::Range<vmm::Iova> range, Access access, bool privileged,
                           std::vector<iovec>& out) const noexcept {
    const std::size_t before = out.size();
    const std::size_t before_length = before == 0 ? 0 : out.back().iov_len;
    PageWalker walker{memory_, paging_};
    bool good = live_.load(std::memory_order_seq_cst);
    if (good && ((privileged && !table_.privileged) || range.size_minus_one() >= longest_request)) {
        report(range.start().raw(), access, privileged, PageFault::Cause::protection);
        good = false;
    }
    for (std::uint64_t at = range.start().raw(), left = good ? range.size() : 0; left != 0;) {
        const std::uint64_t done = append(at, left, access, privileged, walker, out);
        if (done == 0) {
            good = false;
            break;
        }
        at += done;
        left -= done;
    }
    if (!good) {
        out.resize(before);
        if (before != 0)
            out.back().iov_len = before_length;
    }
    return good;
}

void PasidSpace::report(std::uint64_t at, Access access, bool privileged, PageFault::Cause cause) const noexcept {
    if (!live_.load(std::memory_order_relaxed))
        return;
    faults_.fetch_add(1, std::memory_order_relaxed);
    if (sink_)
        sink_({name_.endpoint, name_.guest, name_.host, access, vmm::Iova{at}, privileged, cause});
}

PasidSpace::Counts PasidSpace::counts() const noexcept {
    return {hits_.load(std::memory_order_relaxed), walks_.load(std::memory_order_relaxed),
            faults_.load(std::memory_order_relaxed)};
}

} // namespace iommu
