// SPDX-License-Identifier: Apache-2.0
#include "iommu/endpoint_memory.hpp"

#include <algorithm>

#include "iommu/wire.hpp"

namespace inox::iommu {
namespace {

static_assert(static_cast<std::uint32_t>(Access::read) == wire::map_read &&
              static_cast<std::uint32_t>(Access::write) == wire::map_write);

bool allows(std::uint32_t flags, Access access) {
    const auto wanted = static_cast<std::uint32_t>(access);
    return (flags & wanted) == wanted;
}

/// This many mappings of one request use the cache. The rest of a longer one would push out all others, so it reads the
/// table's entries in a row.
constexpr unsigned cached_mappings = 4;

} // namespace

struct EndpointMemory::Request {
    std::uint64_t at; ///< the first byte that is not translated yet
    const std::uint64_t last;
    const Access access;
    std::vector<iovec>& out;
    TranslationLimit& limit;
    const std::size_t before{out.size()};
    bool whole{false}; ///< the last byte is translated
    bool full{false};  ///< the limit is reached

    /// Precondition: `part` contains `at`. Neighbouring pieces of host memory become one; a ring over several pages
    /// needs that.
    void append(const Known& part) {
        const std::uint64_t end = std::min(part.last, last);
        const std::uint64_t size = end - at + 1;
        std::byte* const host = part.host + (at - part.start);
        iovec* const previous = out.size() > before ? &out.back() : nullptr;
        full = !limit.take_mapping();
        if (full)
            return;
        if (previous && static_cast<std::byte*>(previous->iov_base) + previous->iov_len == host)
            previous->iov_len += size;
        else if (full = !limit.take_piece(); !full)
            out.push_back({host, size});
        whole = end == last;
        at = end + 1;
    }
};

DmaMemory::Hold EndpointMemory::hold() const {
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

/// False when no RAM is there; known.flags is then 0 if nothing is mapped either.
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

Translated EndpointMemory::do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                        TranslationLimit& limit) const noexcept {
    Request request{range.start().raw(), range.last().raw(), access, out, limit};
    if (view_ == View::direct)
        return translate_direct(request);
    if (view_ == View::blocked)
        return refuse(Fault::Reason::domain, request);
    // Nearly every buffer lies within one cached line.
    Line& line = line_of(request.at);
    std::byte* host = nullptr;
    if (!line.busy.exchange(true, std::memory_order_acquire)) {
        const Known& known = line.known;
        if (known.start <= request.at && request.last <= known.last && allows(known.flags, access)) {
            host = known.host + (request.at - known.start);
            line.hits.store(line.hits.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        }
        line.busy.store(false, std::memory_order_release);
    }
    if (!host)
        return translate_mapped(request);
    if (!limit.take_mapping() || !limit.take_piece())
        return Translated::too_many;
    out.push_back({host, request.last - request.at + 1});
    return Translated::whole;
}

Translated EndpointMemory::translate_mapped(Request& request) const noexcept {
    for (unsigned count = 0; !request.whole; ++count) {
        Known known;
        if (count < cached_mappings ? !find(request.at, known) : !look_up(request.at, known))
            return refuse(known.flags == 0 ? Fault::Reason::mapping : Fault::Reason::unknown, request);
        if (!allows(known.flags, request.access))
            return refuse(Fault::Reason::mapping, request);
        request.append(known);
        if (count >= cached_mappings)
            append_neighbours(request);
        if (request.full) {
            request.out.resize(request.before);
            return Translated::too_many;
        }
    }
    return Translated::whole;
}

/// Appends the mappings that follow directly. If this ends before the request or its limit does, the next look-up finds
/// the reason.
void EndpointMemory::append_neighbours(Request& request) const noexcept {
    if (request.whole || request.full)
        return;
    std::uint64_t visited = 0;
    table_->visit(Iova{request.at}, [&](const Mapping& mapping) {
        Known known;
        ++visited;
        if (mapping.range.start().raw() != request.at || !allows(mapping.flags, request.access) ||
            !part_of(mapping, request.at, known))
            return false;
        request.append(known);
        return !request.whole && !request.full;
    });
    misses_.fetch_add(visited, std::memory_order_relaxed);
}

Translated EndpointMemory::translate_direct(const Request& request) const noexcept {
    const auto bytes = memory_.host(*Range<Gpa>::closed(Gpa{request.at}, Gpa{request.last}));
    if (!bytes)
        return Translated::fault;
    if (!request.limit.take_piece())
        return Translated::too_many;
    request.out.push_back({bytes->data(), bytes->size()});
    return Translated::whole;
}

bool EndpointMemory::look_up(std::uint64_t address, Known& known) const noexcept {
    const auto mapping = table_->find(Iova{address});
    known.flags = 0;
    return mapping && part_of(*mapping, address, known);
}

/// A mapping may reach beyond the end of RAM, so only the part of it around the address counts.
bool EndpointMemory::part_of(const Mapping& mapping, std::uint64_t address, Known& known) const noexcept {
    known.flags = mapping.flags | wire::map_mmio; // not 0, even without permissions
    const std::uint64_t start = mapping.range.start().raw();
    const std::uint64_t physical = mapping.physical.raw() + (address - start);
    const auto& regions = memory_.regions();
    const auto region =
        std::ranges::find_if(regions, [&](const auto& one) { return one.range.contains(Gpa{physical}); });
    if (region == regions.end())
        return false;
    const std::uint64_t below = std::min(address - start, physical - region->range.start().raw());
    const std::uint64_t above = std::min(mapping.range.last().raw() - address, region->range.last().raw() - physical);
    known.start = address - below;
    known.last = address + above;
    known.host = region->host.data() + (physical - below - region->range.start().raw());
    return true;
}

Translated EndpointMemory::refuse(Fault::Reason reason, const Request& request) const noexcept {
    request.out.resize(request.before);
    fault_count_.fetch_add(1, std::memory_order_relaxed);
    faults_.report({id_, reason, request.access, Iova{request.at}});
    return Translated::fault;
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
    forget(Range<Iova>::full());
}

void EndpointMemory::forget(Range<Iova> range) {
    for (Line& line : lines_)
        if (line.known.start <= range.last().raw() && range.start().raw() <= line.known.last)
            line.known = {};
    generation_.fetch_add(1, std::memory_order_release);
}

} // namespace inox::iommu
