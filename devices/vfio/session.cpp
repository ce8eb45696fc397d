// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/session.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "devices/vfio/dma/container.hpp"
#include "devices/vfio/dma/pin_memory.hpp"
#include "devices/vfio/kernel.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/log.hpp"
#include "vmm/memory/huge_pages.hpp"

namespace inox::devices::vfio {
namespace {

/// The addresses at which a device sees `range` in a 1:1 address space.
IovaRange iova(Range<Gpa> range) { return *IovaRange::closed(Iova{range.start().raw()}, Iova{range.last().raw()}); }

std::string ram_text(const RamRegion& region) {
    return format("guest memory from 0x%llx to 0x%llx", hex(region.range.start()), hex(region.range.last()));
}

void log_progress(std::uint64_t done, std::uint64_t total) {
    log::write(log::Level::info, "guest memory ready for DMA: %llu of %llu MiB",
               static_cast<unsigned long long>(done / MiB), static_cast<unsigned long long>(total / MiB));
}

} // namespace

Kernel& Session::host_kernel() { return Kernel::host(); }

Session::Session(SessionHooks hooks, Kernel& kernel, std::string root, std::optional<LockLimit> limit)
    : hooks_{std::move(hooks)}, kernel_{kernel}, root_{std::move(root)},
      resources_{{}, limit ? *limit : LockLimit::of_process(root_)} {
    if (!hooks_.progress)
        hooks_.progress = log_progress;
    resources_.before_pinning = [this](std::span<std::byte> host) { gather(host); };
}

Session::~Session() { tell_unreachable(); }

Result<void> Session::check_ram(const AddressSpace& space, const RamRegion& region) const {
    const auto range = iova(region.range);
    for (const auto& reserved : space.reserved())
        if (reserved.range.overlaps(range))
            return fail(Errc::reserved_conflict,
                        ram_text(region) + format(" overlaps 0x%llx to 0x%llx, where devices of %s may not do DMA",
                                                  hex(reserved.range.start()), hex(reserved.range.last()),
                                                  space.name().c_str()),
                        "give the guest less memory, or put the device behind the virtual IOMMU");
    if (std::ranges::none_of(space.apertures(), [&](const auto& one) { return one.contains(range); }))
        return fail(Errc::reserved_conflict,
                    ram_text(region) + " is beyond what the IOMMU of " + space.name() + " can address",
                    "give the guest less memory, or put the device behind the virtual IOMMU");
    return {};
}

Result<void> Session::add_ram(const RamRegion& region) {
    for (const auto* space : one_to_one_)
        TRY_VOID(check_ram(*space, region));
    TRY_VOID(resources_.memory.add(region.host, ram_text(region)));
    ram_.push_back(region);
    std::vector<AddressSpace*> done;
    Result<void> mapped;
    for (auto* space : one_to_one_) {
        mapped = space->map(iova(region.range), region.host, Access::read_write);
        if (!mapped)
            break;
        done.push_back(space);
    }
    if (mapped)
        return {};
    ram_.pop_back();
    for (auto* space : done)
        TRY_VOID(space->unmap(iova(region.range)));
    TRY_VOID(resources_.memory.remove(region.host));
    return mapped;
}

std::uint64_t Session::ram_size() const {
    return std::accumulate(ram_.begin(), ram_.end(), std::uint64_t{0},
                           [](auto sum, const auto& region) { return sum + region.host.size(); });
}

Result<void> Session::map_all_ram(AddressSpace& space) {
    if (resources_.memory.pinned() == 0) {
        std::vector<std::span<std::byte>> memory;
        for (const auto& region : ram_)
            memory.push_back(region.host);
        TRY_VOID(check_available(root_, memory));
    }
    const auto total = ram_size();
    for (const auto& region : ram_)
        TRY_VOID(check_ram(space, region));
    TRY_VOID(resources_.lock_limit.check(resources_.memory.pinned(), total, "DMA to guest memory for " + space.name()));
    PinProgress progress{root_, total, hooks_.progress};
    progress_ = &progress;
    Result<void> mapped;
    for (auto region = ram_.begin(); mapped && region != ram_.end(); ++region)
        mapped = space.map(iova(region->range), region->host, Access::read_write);
    progress_ = nullptr;
    return mapped;
}

void Session::gather(std::span<std::byte> host) {
    const auto* end = host.data() + host.size();
    const bool ram = std::ranges::any_of(ram_, [&](const auto& region) {
        return host.data() >= region.host.data() && end <= region.host.data() + region.host.size();
    });
    if (!ram || host.size() < least_gathered)
        return;
    std::uint64_t before = 0;
    gather_huge_pages(host, [&](std::uint64_t done) {
        if (progress_)
            progress_->gathered(done - std::exchange(before, done));
    });
}

Result<void> Session::map_guest(AddressSpace& space) {
    if (one_to_one_.contains(&space))
        return {};
    if (space.mapping_count() != 0)
        return fail(Errc::wrong_state, space.name() + " has DMA mappings of the guest's own");
    if (auto mapped = map_all_ram(space); !mapped) {
        TRY_VOID(space.unmap(IovaRange::full()));
        return mapped;
    }
    use_one_to_one(space);
    return {};
}

void Session::use_one_to_one(AddressSpace& space) {
    one_to_one_.insert(&space);
    for (auto& bar : bars_)
        map_bar(space, bar);
}

Result<std::unique_ptr<PinJob>> Session::begin_map_guest(AddressSpace& space, std::uint64_t piece) {
    if (one_to_one_.contains(&space))
        return nullptr;
    if (space.mapping_count() != 0)
        return fail(Errc::wrong_state, space.name() + " has DMA mappings of the guest's own");
    for (const auto& region : ram_)
        TRY_VOID(check_ram(space, region));
    const auto before = resources_.memory.pinned();
    TRY_VOID(resources_.lock_limit.check(before, ram_size(), "DMA to guest memory for " + space.name()));
    // Limits the number of mappings to what every host accepts, with room for BARs.
    constexpr std::uint64_t most_pieces = 4096;
    while (ram_size() / piece > most_pieces)
        piece *= 2;
    std::vector<PinJob::Piece> pieces;
    Result<void> reserved;
    for (auto region = ram_.begin(); reserved && region != ram_.end(); ++region)
        for (std::uint64_t at = 0; reserved && at < region->host.size(); at += piece) {
            const auto host = region->host.subspan(at, std::min<std::uint64_t>(piece, region->host.size() - at));
            const auto range = *IovaRange::sized(Iova{region->range.start().raw() + at}, host.size());
            reserved = space.reserve(range, host);
            if (reserved)
                pieces.push_back({range, host});
        }
    auto job = std::make_unique<PinJob>(space, std::move(pieces), root_, hooks_.progress);
    job->check_available_ = before == 0;
    if (!reserved) {
        (void)end_map_guest(*job);
        return std::unexpected{std::move(reserved).error()};
    }
    return job;
}

Result<void> Session::end_map_guest(PinJob& job) {
    const auto result = job.result_.value_or(fail(Errc::wrong_state, "memory was not pinned"));
    if (!result) {
        for (const auto& piece : job.pieces_)
            job.space_.cancel(piece.range);
        return result;
    }
    use_one_to_one(job.space_);
    return {};
}

std::optional<int> Session::group_file(unsigned group) const {
    const auto found = spaces_.find(group);
    if (found == spaces_.end() || found->second.backend != Backend::container)
        return std::nullopt;
    const auto space = found->second.space.lock();
    return space ? std::optional{static_cast<const Container&>(*space).group()} : std::nullopt;
}

std::shared_ptr<AddressSpace> Session::add_space(unsigned group, std::shared_ptr<AddressSpace> space, Backend backend) {
    auto* raw = space.get();
    std::shared_ptr<AddressSpace> until_forgotten{raw, [this, own = std::move(space)](AddressSpace* last) mutable {
                                                      forget(*last);
                                                      own.reset();
                                                  }};
    spaces_[group] = {until_forgotten, backend};
    return until_forgotten;
}

void Session::forget(AddressSpace& space) {
    one_to_one_.erase(&space);
    for (auto& bar : bars_)
        bar.mapped_in.erase(&space);
}

void Session::map_bar(AddressSpace& space, SharedBar& bar) {
    const auto mapped = space.maps_bars() ? space.map(bar.range, bar.host, Access::read_write)
                                          : fail(Errc::unsupported, "iommufd cannot map BARs; p2p=on takes the "
                                                                    "container instead");
    if (mapped) {
        bar.mapped_in.insert(&space);
        log::write(log::Level::info, "%s can be reached by devices of %s", bar.name.c_str(), space.name().c_str());
    } else {
        const auto text =
            bar.name + " cannot be reached by devices of " + space.name() + ": " + mapped.error().message();
        log::write(log::Level::info, "%s", text.c_str());
        if (unreachable_.count++ != 0)
            return;
        unreachable_.first = text;
        if (hooks_.on_unreachable)
            hooks_.on_unreachable();
    }
}

void Session::tell_unreachable() {
    if (unreachable_.count == 0 || std::exchange(unreachable_.told, true))
        return;
    log::write(log::Level::warning,
               "assigned devices do not reach each other's BARs (%zu refusals, the first: %s); all else works",
               unreachable_.count, unreachable_.first.c_str());
}

Registration Session::share_bar(Range<Gpa> range, std::span<std::byte> host, const std::string& name) {
    if (const auto added = resources_.memory.add(host, name, iommu::RegisteredKind::bar); !added) {
        log::write(log::Level::warning, "%s is not shared with other devices: %s", name.c_str(),
                   added.error().message().c_str());
        return {};
    }
    const auto number = next_bar_++;
    auto& bar = bars_.emplace_back(SharedBar{number, iova(range), host, name});
    for (auto* space : one_to_one_)
        map_bar(*space, bar);
    return Registration{[this, number] { unshare_bar(number); }};
}

void Session::unshare_bar(std::uint64_t number) {
    const auto bar = std::ranges::find(bars_, number, &SharedBar::number);
    if (bar == bars_.end())
        return;
    for (auto* space : bar->mapped_in)
        if (const auto unmapped = space->unmap(bar->range); !unmapped)
            log::write(log::Level::error, "%s: %s", bar->name.c_str(), unmapped.error().message().c_str());
    if (const auto removed = resources_.memory.remove(bar->host); !removed)
        log::write(log::Level::error, "%s: %s", bar->name.c_str(), removed.error().message().c_str());
    bars_.erase(bar);
}

} // namespace inox::devices::vfio
