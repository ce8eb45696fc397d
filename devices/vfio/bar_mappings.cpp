// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/bar_mappings.hpp"

#include <algorithm>

#include "vmm/base/hex.hpp"
#include "vmm/base/log.hpp"

namespace inox::devices::vfio {
namespace {

/// The whole pages inside the area; size 0 when there is none.
RegionArea shrink(RegionArea area) {
    const auto start = align_up(area.offset, page_size);
    const auto end = align_down(area.offset + area.size, page_size);
    return end > start ? RegionArea{start, end - start} : RegionArea{};
}

/// The whole pages that contain the area.
RegionArea widen(RegionArea area) {
    const auto start = align_down(area.offset, page_size);
    return {start, align_up(area.offset + area.size, page_size) - start};
}

void cut(std::vector<RegionArea>& areas, RegionArea hole) {
    std::vector<RegionArea> left;
    for (const auto& area : areas) {
        const auto end = area.offset + area.size;
        const auto hole_end = hole.offset + hole.size;
        if (hole_end <= area.offset || end <= hole.offset) {
            left.push_back(area);
            continue;
        }
        if (area.offset < hole.offset)
            left.push_back({area.offset, hole.offset - area.offset});
        if (hole_end < end)
            left.push_back({hole_end, end - hole_end});
    }
    areas = std::move(left);
}

} // namespace

std::vector<RegionArea> exitless_areas(const RegionInfo& region, std::span<const RegionArea> trapped) {
    std::vector<RegionArea> areas;
    for (const auto& area : region.areas) {
        if (area.offset > region.size || area.size > region.size - area.offset)
            continue;
        if (const auto pages = shrink(area); pages.size)
            areas.push_back(pages);
    }
    for (const auto& hole : trapped)
        if (hole.size)
            cut(areas, widen(hole));
    std::ranges::sort(areas, {}, &RegionArea::offset);
    return areas;
}

void BarMappings::prepare(const HostDevice& device, unsigned bar, const RegionInfo& region,
                          std::span<const RegionArea> trapped) {
    Pieces pieces;
    for (const auto& area : exitless_areas(region, trapped)) {
        auto host = device.map(bar, area);
        if (!host) {
            log::write(log::Level::warning, "%s: BAR %u cannot be mapped at %#llx, so each access exits: %s",
                       device.name().c_str(), bar, hex(area.offset), host.error().message().c_str());
            continue;
        }
        pieces.push_back({area, *std::move(host), !region.writable, {}, {}});
    }
    const std::lock_guard lock{mutex_};
    pieces_[bar] = std::move(pieces);
}

void BarMappings::show(unsigned bar, Gpa address) noexcept {
    const std::lock_guard lock{mutex_};
    if (closed_ || !is_aligned(address.raw(), page_size))
        return;
    for (auto& piece : pieces_[bar]) {
        const auto range = Range<Gpa>::sized(address + piece.area.offset, piece.area.size);
        auto shown = guest_.map(*range, piece.host.bytes(), piece.read_only, "a BAR of an assigned device");
        if (shown) {
            piece.guest = *std::move(shown);
            piece.at = range;
        } else {
            log::write(log::Level::warning, "each access to this part of a BAR exits: %s",
                       shown.error().message().c_str());
        }
    }
}

void BarMappings::hide(unsigned bar) noexcept {
    const std::lock_guard lock{mutex_};
    for (auto& piece : pieces_[bar]) {
        piece.guest.reset();
        piece.at.reset();
    }
}

void BarMappings::close() noexcept {
    const std::lock_guard lock{mutex_};
    closed_ = true;
    for (auto& pieces : pieces_)
        for (auto& piece : pieces) {
            piece.guest.reset();
            piece.at.reset();
        }
}

std::vector<BarMappings::Shown> BarMappings::shown() const {
    const std::lock_guard lock{mutex_};
    std::vector<Shown> found;
    for (const auto& pieces : pieces_)
        for (const auto& piece : pieces)
            if (piece.at)
                found.push_back({*piece.at, piece.host.bytes()});
    return found;
}

} // namespace inox::devices::vfio
