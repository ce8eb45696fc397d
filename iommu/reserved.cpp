// SPDX-License-Identifier: Apache-2.0
#include "iommu/reserved.hpp"

#include <algorithm>

namespace inox::iommu {
namespace {

using IovaRange = Range<Iova>;

/// Calls `visit` with each piece of `whole` that no range of the sorted list covers.
template <class Ranges, class F> void gaps(IovaRange whole, const Ranges& sorted, F&& visit) {
    std::uint64_t next = whole.start().raw();
    for (const IovaRange& range : sorted) {
        if (range.last().raw() < next)
            continue;
        if (range.start() > whole.last())
            break;
        if (range.start().raw() > next)
            visit(*IovaRange::closed(Iova{next}, Iova{range.start().raw() - 1}));
        if (range.last() >= whole.last())
            return;
        next = range.last().raw() + 1;
    }
    visit(*IovaRange::closed(Iova{next}, whole.last()));
}

class List {
public:
    /// Adds the parts of the range that are not in the list yet.
    void add(IovaRange range, ReservedKind kind) {
        std::vector<IovaRange> taken;
        for (const auto& region : regions_)
            taken.push_back(region.range);
        gaps(range, taken, [&](IovaRange gap) { regions_.push_back({gap, kind}); });
        std::ranges::sort(regions_, {}, [](const ReservedRegion& region) { return region.range.start(); });
    }

    std::vector<ReservedRegion> take() {
        join([](const ReservedRegion& a, const ReservedRegion& b) {
            return a.kind == b.kind && a.range.last().raw() + 1 == b.range.start().raw();
        });
        while (regions_.size() > max_reserved_regions)
            join_nearest();
        return std::move(regions_);
    }

private:
    template <class F> void join(F&& neighbours) {
        for (std::size_t i = 1; i < regions_.size();)
            if (neighbours(regions_[i - 1], regions_[i]))
                join_with_next(i - 1);
            else
                ++i;
    }
    void join_with_next(std::size_t i) {
        regions_[i].range = *IovaRange::closed(regions_[i].range.start(), regions_[i + 1].range.last());
        regions_.erase(regions_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
    /// Joins the two neighbours of one kind with the smallest gap, so the MSI window keeps its kind where possible.
    void join_nearest() {
        std::size_t best = regions_.size();
        std::uint64_t least = ~std::uint64_t{0};
        for (std::size_t i = 0; i + 1 < regions_.size(); ++i) {
            const std::uint64_t between = regions_[i + 1].range.start().raw() - regions_[i].range.last().raw();
            if (regions_[i].kind == regions_[i + 1].kind && between <= least) {
                least = between;
                best = i;
            }
        }
        if (best == regions_.size()) // no two neighbours have one kind, so one changes its kind
            regions_[1].kind = regions_[0].kind, best = 0;
        join_with_next(best);
    }

    std::vector<ReservedRegion> regions_{};
};

} // namespace

std::vector<ReservedRegion> guest_reserved(std::span<const ReservedRegion> host, std::span<const IovaRange> apertures,
                                           IovaRange input) {
    List list;
    list.add(msi_window, ReservedKind::msi);
    for (const auto& region : host)
        list.add(region.range, region.kind == ReservedKind::msi ? ReservedKind::msi : ReservedKind::reserved);
    gaps(input, apertures, [&](IovaRange gap) { list.add(gap, ReservedKind::reserved); });
    return list.take();
}

} // namespace inox::iommu
