// SPDX-License-Identifier: Apache-2.0
#include "iommu/endpoint_memory.hpp"

#include <algorithm>

#include "iommu/wire.hpp"

namespace iommu {
namespace {

using vmm::Access;
using vmm::Gpa;
using vmm::Iova;

static_assert(static_cast<std::uint32_t>(Access::read) == wire::map_read &&
              static_cast<std::uint32_t>(Access::write) == wire::map_write);

bool allows(std::uint32_t flags, Access access) {
    const auto wanted = static_cast<std::uint32_t>(access);
    return (flags & wanted) == wanted;
}

/// Pieces that lie one behind the other in host memory become one: a ring over several pages needs that.
void append(std::vector<iovec>& out, std::size_t before, std::byte* host, std::uint64_t size) {
    if (out.size() > before) {
        iovec& previous = out.back();
        if (static_cast<std::byte*>(previous.iov_base) + previous.iov_len == host) {
            previous.iov_len += size;
            return;
        }
    }
    out.push_back({host, size});
}

} // namespace

vmm::DmaMemory::Hold EndpointMemory::hold() const {
    if (waiting_.load(std::memory_order_relaxed) != 0)
        const std::lock_guard wait{gate_};
    return Hold{std::shared_lock{mutex_}};
}

std::unique_lock<std::shared_mutex> EndpointMemory::lock() {
    waiting_.fetch_add(1, std::memory_order_relaxed);
    const std::lock_guard closed{gate_};
    std::unique_lock alone{mutex_};
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    return alone;
}

bool EndpointMemory::translate(vmm::Range<Iova> range, Access access, std::vector<iovec>& out) const noexcept {
    const std::size_t before = out.size();
    if (view_ == View::direct)
        return translate_direct(range, out);
    if (view_ == View::blocked)
        return refuse(Fault::Reason::domain, access, range.start().raw(), out, before);
    Known known;
    for (std::uint64_t at = range.start().raw();; at = known.last + 1) {
        if (!find(at, known))
            return refuse(known.flags == 0 ? Fault::Reason::mapping : Fault::Reason::unknown, access, at, out, before);
        if (!allows(known.flags, access))
            return refuse(Fault::Reason::mapping, access, at, out, before);
        const std::uint64_t last = std::min(known.last, range.last().raw());
        append(out, before, known.host + (at - known.start), last - at + 1);
        if (last == range.last().raw())
            return true;
    }
}

bool EndpointMemory::translate_direct(vmm::Range<Iova> range, std::vector<iovec>& out) const noexcept {
    const auto physical = vmm::Range<Gpa>::closed(Gpa{range.start().raw()}, Gpa{range.last().raw()});
    const auto bytes = memory_.host(*physical);
    if (!bytes)
        return false;
    out.push_back({bytes->data(), bytes->size()});
    return true;
}

/// False: nothing is there; known.flags is 0 without a mapping.
bool EndpointMemory::find(std::uint64_t address, Known& known) const noexcept {
    Line& line = line_of(address);
    if (line.busy.exchange(true, std::memory_order_acquire)) {
        misses_.fetch_add(1, std::memory_order_relaxed);
        return look_up(address, known);
    }
    bool found = line.known.start <= address && address <= line.known.last;
    if (found) {
        line.hits.store(line.hits.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    } else {
        misses_.fetch_add(1, std::memory_order_relaxed);
        Known fresh;
        found = look_up(address, fresh);
        line.known = found ? fresh : Known{};
        known = fresh;
    }
    if (found)
        known = line.known;
    line.busy.store(false, std::memory_order_release);
    return found;
}

bool EndpointMemory::look_up(std::uint64_t address, Known& known) const noexcept {
    const auto mapping = table_->find(Iova{address});
    known.flags = mapping ? mapping->flags | wire::map_mmio : 0; // not 0, even without permissions
    if (!mapping)
        return false;
    // One mapping may reach over the end of RAM: only the part around the address counts.
    const std::uint64_t start = mapping->range.start().raw();
    const std::uint64_t physical = mapping->physical.raw() + (address - start);
    const auto& regions = memory_.regions();
    const auto region =
        std::ranges::find_if(regions, [&](const auto& one) { return one.range.contains(Gpa{physical}); });
    if (region == regions.end())
        return false;
    const std::uint64_t below = std::min(address - start, physical - region->range.start().raw());
    const std::uint64_t above = std::min(mapping->range.last().raw() - address, region->range.last().raw() - physical);
    known.start = address - below;
    known.last = address + above;
    known.host = region->host.data() + (physical - below - region->range.start().raw());
    return true;
}

bool EndpointMemory::refuse(Fault::Reason reason, Access access, std::uint64_t address, std::vector<iovec>& out,
                            std::size_t before) const noexcept {
    out.resize(before);
    fault_count_.fetch_add(1, std::memory_order_relaxed);
    faults_.report({id_, reason, access, Iova{address}});
    return false;
}

EndpointMemory::Counts EndpointMemory::counts() const {
    Counts sum{0, misses_.load(std::memory_order_relaxed), fault_count_.load(std::memory_order_relaxed)};
    for (const Line& line : lines_)
        sum.hits += line.hits.load(std::memory_order_relaxed);
    return sum;
}

void EndpointMemory::set_view(View view, const MappingTable* table) {
    view_ = view;
    table_ = table;
    forget(vmm::Range<Iova>::full());
}

void EndpointMemory::forget(vmm::Range<Iova> range) {
    for (Line& line : lines_)
        if (line.known.start <= range.last().raw() && range.start().raw() <= line.known.last)
            line.known = {};
    generation_.fetch_add(1, std::memory_order_release);
}

} // namespace iommu
