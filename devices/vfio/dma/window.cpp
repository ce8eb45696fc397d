// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/window.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace inox::devices::vfio {
namespace {

std::string_view take_word(std::string_view& line) {
    const auto start = std::min(line.find_first_not_of(" \t"), line.size());
    const auto end = std::min(line.find_first_of(" \t", start), line.size());
    const auto word = line.substr(start, end - start);
    line.remove_prefix(end);
    return word;
}

std::optional<Iova> take_address(std::string_view& line) {
    auto word = take_word(line);
    if (word.starts_with("0x"))
        word.remove_prefix(2);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
    if (word.empty() || error != std::errc{} || end != word.data() + word.size())
        return std::nullopt;
    return Iova{value};
}

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

std::vector<ReservedLine> parse_reserved(std::string_view text) {
    std::vector<ReservedLine> out;
    while (!text.empty()) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        const auto first = take_address(line);
        const auto last = take_address(line);
        if (!first || !last)
            continue;
        const auto range = IovaRange::closed(*first, *last);
        const auto type = take_word(line);
        if (!range)
            continue;
        const bool relaxable = type == "direct-relaxable";
        out.push_back({*range,
                       type == "msi"                   ? iommu::ReservedKind::msi
                       : type == "direct" || relaxable ? iommu::ReservedKind::direct
                                                       : iommu::ReservedKind::reserved,
                       relaxable});
    }
    return out;
}

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
