// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_space.hpp"

#include <algorithm>
#include <memory>

#include "vmm/base/bytes.hpp"

namespace inox::iommu {
namespace {

/// A longer request than any device makes is refused, or walking its pages could take minutes.
constexpr std::uint64_t longest_request = GiB;

/// Requests of up to this many bytes use the cache and fill it.
constexpr std::uint64_t cached_request = 4 * page_size;

// Low bits of a cached value; the rest is the page's address.
constexpr std::uint64_t line_valid = 1;
constexpr std::uint64_t line_write = 2;
constexpr std::uint64_t line_user = 4;
constexpr std::uint64_t line_dirty = 8;
constexpr std::uint64_t line_flags = page_size - 1;

constexpr bool writes(Access access) {
    return (static_cast<unsigned>(access) & static_cast<unsigned>(Access::write)) != 0;
}

Paging paging_of(const PageTable& table) {
    Paging paging;
    paging.root = table.root;
    paging.five_levels = table.five_levels;
    paging.write_protect = table.write_protect;
    paging.execute_disable = table.execute_disable;
    return paging;
}

} // namespace

PasidSpace::PasidSpace(const GuestMemory& memory, Name name, const PageTable& table, PasidFaultSink sink)
    : memory_{memory}, name_{name}, table_{table}, paging_{paging_of(table)}, sink_{std::move(sink)} {}

PasidSpace::~PasidSpace() { delete lines_.load(std::memory_order_relaxed); }

DmaMemory::Hold PasidSpace::hold() const {
    const std::lock_guard wait_your_turn{turnstile_};
    return DmaMemory::Hold{std::shared_lock{holds_}};
}

void PasidSpace::drain() noexcept { invalidate({}); }

void PasidSpace::invalidate(std::optional<Range<Iova>> range) noexcept {
    const std::lock_guard first{turnstile_};
    const std::lock_guard alone{holds_};
    generation_.fetch_add(1, std::memory_order_release);
    // A large page may be cached under many addresses, and a line does not say to which page it belongs.
    if (large_.exchange(false))
        range.reset();
    auto* const lines = lines_.load(std::memory_order_acquire);
    if (!lines)
        return;
    const std::uint64_t pages = range ? range->size_minus_one() / page_size + 2 : line_count;
    const std::uint64_t start = range ? range->start().raw() / page_size : 0;
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(pages, line_count); ++i) {
        auto& line = (*lines)[(start + i) % line_count];
        line.value.store(0, std::memory_order_relaxed);
        line.key.store(0, std::memory_order_relaxed);
    }
}

std::optional<Gpa> PasidSpace::cached(std::uint64_t at, PageAccess access) const noexcept {
    const std::uint64_t page = at / page_size;
    const auto* const lines = lines_.load(std::memory_order_acquire);
    if (!lines)
        return std::nullopt;
    const auto& line = (*lines)[page % line_count];
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
    const std::uint64_t page = at / page_size;
    if (mapping.page_bits != 12)
        large_.store(true, std::memory_order_relaxed);
    auto* lines = lines_.load(std::memory_order_acquire);
    if (!lines) {
        auto fresh = std::make_unique<Lines>();
        if (lines_.compare_exchange_strong(lines, fresh.get(), std::memory_order_acq_rel))
            lines = fresh.release();
    }
    auto& line = (*lines)[page % line_count];
    line.value.store(value, std::memory_order_relaxed);
    line.key.store(page ^ value, std::memory_order_relaxed);
}

/// Looks up one address for a request that uses the cache.
std::expected<PageRun, PageFault> PasidSpace::find(std::uint64_t at, std::uint64_t most, PageAccess wanted,
                                                   Request& request) const noexcept {
    if (const auto known = cached(at, wanted)) {
        ++request.hits;
        return PageRun{*known, std::min(most, page_size - at % page_size)};
    }
    ++request.walks;
    const auto mapping = request.walker.walk(at, wanted);
    if (!mapping)
        return std::unexpected{mapping.error()};
    remember(at, *mapping);
    const std::uint64_t size = 1ULL << mapping->page_bits;
    return PageRun{mapping->address, std::min(most, size - at % size)};
}

std::byte* PasidSpace::host(const PageRun& run, Request& request) const noexcept {
    const auto inside = [&](const RamRegion& region) {
        const std::uint64_t offset = run.address.raw() - region.range.start().raw();
        return offset < region.host.size() && run.size <= region.host.size() - offset ? region.host.data() + offset
                                                                                      : nullptr;
    };
    if (request.ram)
        if (auto* const bytes = inside(*request.ram))
            return bytes;
    for (const auto& region : memory_.regions())
        if (auto* const bytes = inside(region)) {
            request.ram = &region;
            return bytes;
        }
    return nullptr;
}

std::uint64_t PasidSpace::full(Request& request) noexcept {
    request.full = true;
    return 0;
}

std::uint64_t PasidSpace::append(std::uint64_t at, std::uint64_t most, Request& request,
                                 std::vector<iovec>& out) const noexcept {
    const PageAccess wanted{.write = writes(request.access), .user = !request.privileged};
    if (!request.limit.take_mapping())
        return full(request);
    request.walks += request.cacheable ? 0 : 1;
    auto run = request.cacheable ? find(at, most, wanted, request) : request.walker.run(at, most, wanted);
    if (!run) {
        report(at, request.access, request.privileged, run.error().cause);
        return 0;
    }
    auto* bytes = host(*run, request);
    if (!bytes) { // the first page of a long run may still be RAM
        run->size = std::min(run->size, page_size - at % page_size);
        bytes = host(*run, request);
    }
    if (!bytes) {
        report(at, request.access, request.privileged, PageFault::Cause::outside_ram);
        return 0;
    }
    if (!out.empty() && static_cast<std::byte*>(out.back().iov_base) + out.back().iov_len == bytes)
        out.back().iov_len += run->size;
    else if (request.limit.take_piece())
        out.push_back({bytes, run->size});
    else
        return full(request);
    return run->size;
}

Translated PasidSpace::translate(Range<Iova> range, Access access, bool privileged, std::vector<iovec>& out,
                                 TranslationLimit& limit) const noexcept {
    const std::size_t before = out.size();
    const std::size_t before_length = before == 0 ? 0 : out.back().iov_len;
    Request request{access, privileged, range.size_minus_one() < cached_request, PageWalker{memory_, paging_}, limit};
    bool good = live_.load(std::memory_order_seq_cst);
    if (good && ((privileged && !table_.privileged) || range.size_minus_one() >= longest_request)) {
        report(range.start().raw(), access, privileged, PageFault::Cause::protection);
        good = false;
    }
    for (std::uint64_t at = range.start().raw(), left = good ? range.size() : 0; left != 0;) {
        const std::uint64_t done = append(at, left, request, out);
        if (done == 0) {
            good = false;
            break;
        }
        at += done;
        left -= done;
    }
    if (request.hits != 0)
        hits_.fetch_add(request.hits, std::memory_order_relaxed);
    if (request.walks != 0)
        walks_.fetch_add(request.walks, std::memory_order_relaxed);
    if (!good) {
        out.resize(before);
        if (before != 0)
            out.back().iov_len = before_length;
    }
    return good ? Translated::whole : request.full ? Translated::too_many : Translated::fault;
}

void PasidSpace::report(std::uint64_t at, Access access, bool privileged, PageFault::Cause cause) const noexcept {
    if (!live_.load(std::memory_order_relaxed))
        return;
    faults_.fetch_add(1, std::memory_order_relaxed);
    if (sink_)
        sink_({.endpoint = name_.endpoint,
               .guest = name_.guest,
               .host = name_.host,
               .access = access,
               .address = Iova{at},
               .privileged = privileged,
               .cause = cause});
}

PasidSpace::Counts PasidSpace::counts() const noexcept {
    return {hits_.load(std::memory_order_relaxed), walks_.load(std::memory_order_relaxed),
            faults_.load(std::memory_order_relaxed)};
}

} // namespace inox::iommu
