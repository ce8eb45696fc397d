// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/window.hpp"

#include <algorithm>

#include "devices/vfio/sysfs.hpp"

namespace inox::devices::vfio {
namespace {

/// The parts of `from` that lie outside all of `sorted`.
std::vector<IovaRange> subtract(IovaRange from, std::span<const IovaRange> sorted) {
    std::vector<IovaRange> out;
    Iova start = from.start();
    for (const auto& cut : sorted) {
        if (cut.last() < start || !cut.overlaps(from))
            continue;
        if (cut.start() > start)
            out.push_back(*IovaRange::closed(start, Iova{cut.start().raw() - 1}));
        if (cut.last() >= from.last())
            return out;
        start = cut.last() + 1;
    }
    out.push_back(*IovaRange::closed(start, from.last()));
    return out;
}

void sort(std::vector<IovaRange>& ranges) {
    std::ranges::sort(ranges, {}, [](const IovaRange& range) { return range.start(); });
}

std::vector<IovaRange> merged(std::vector<IovaRange> ranges) {
    sort(ranges);
    std::vector<IovaRange> out;
    for (const auto& range : ranges)
        if (!out.empty() && out.back().overlaps(range))
            out.back() = *IovaRange::closed(out.back().start(), std::max(out.back().last(), range.last()));
        else
            out.push_back(range);
    return out;
}

} // namespace

Window make_window(std::vector<IovaRange> usable, std::span<const ReservedLine> labels, std::uint64_t page_sizes) {
    std::vector<IovaRange> labelled;
    for (const auto& label : labels)
        if (!label.relaxable)
            labelled.push_back(label.range);
    labelled = merged(std::move(labelled));

    Window out;
    out.page_sizes = page_sizes;
    if (usable.empty())
        usable.push_back(IovaRange::full());
    for (const auto& range : merged(std::move(usable)))
        for (const auto& piece : subtract(range, labelled))
            out.apertures.push_back(piece);
    if (out.apertures.empty())
        return out;

    // A hole has the kinds of its labels; the rest of it is plainly reserved. Below the first and above the last
    // aperture the IOMMU's address space ends, so only labelled ranges are listed there.
    const auto inside = *IovaRange::closed(out.apertures.front().start(), out.apertures.back().last());
    for (const auto& hole : subtract(inside, out.apertures))
        for (const auto& piece : subtract(hole, labelled))
            out.reserved.push_back({piece, iommu::ReservedKind::reserved});
    std::vector<IovaRange> told; // where labels overlap, the first one counts
    for (const auto& label : labels) {
        if (label.relaxable)
            continue;
        for (const auto& piece : subtract(label.range, told))
            out.reserved.push_back({piece, label.kind});
        told.push_back(label.range);
        told = merged(std::move(told));
    }
    std::ranges::sort(out.reserved, {}, [](const auto& region) { return region.range.start(); });
    return out;
}

} // namespace inox::devices::vfio
