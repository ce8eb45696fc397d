// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/vfio_dma.hpp"

#include <algorithm>

namespace inox::fakes {

void VfioDma::clear() {
    for (const auto& [iova, one] : mappings_)
        rules_.locked -= one.size;
    mappings_.clear();
}

int VfioDma::map_type1(const vfio_iommu_type1_dma_map& map) {
    constexpr __u32 known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    if ((map.flags & ~known) != 0 || (map.flags & known) == 0)
        return -EINVAL;
    if (map.size == 0 || ((map.iova | map.size | map.vaddr) & (granule() - 1)) != 0)
        return -EINVAL;
    if (map.iova + map.size - 1 < map.iova || map.vaddr + map.size - 1 < map.vaddr)
        return -EINVAL;
    if (overlaps(map.iova, map.iova + map.size - 1))
        return -EEXIST;
    if (mappings_.size() >= rules_.entry_limit)
        return -ENOSPC;
    if (!usable(map.iova, map.iova + map.size - 1))
        return -EINVAL;
    return pin(map.iova, {map.size, map.vaddr, map.flags});
}

int VfioDma::unmap_type1(vfio_iommu_type1_dma_unmap& unmap) {
    if ((unmap.flags & ~static_cast<__u32>(VFIO_DMA_UNMAP_FLAG_ALL)) != 0)
        return -EINVAL;
    if ((unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL) != 0) {
        if (!rules_.unmap_all || unmap.iova != 0 || unmap.size != 0)
            return -EINVAL;
        unmap.size = remove(0, ~std::uint64_t{0});
        return nothing(unmap.size);
    }
    const auto last = unmap.iova + unmap.size - 1;
    if (unmap.size == 0 || ((unmap.iova | unmap.size) & (granule() - 1)) != 0 || last < unmap.iova)
        return -EINVAL;
    if (last == ~std::uint64_t{0} && rules_.wrong_at_the_end)
        return -EINVAL;
    if (cut(unmap.iova) || (last != ~std::uint64_t{0} && cut(last + 1)))
        return -EINVAL;
    unmap.size = remove(unmap.iova, last);
    return nothing(unmap.size);
}

int VfioDma::map_ioas(const devices::vfio::uapi::IoasMap& map) {
    constexpr auto known = devices::vfio::uapi::IoasMap::flag_fixed_iova |
                           devices::vfio::uapi::IoasMap::flag_writeable | devices::vfio::uapi::IoasMap::flag_readable;
    if ((map.flags & ~known) != 0 || map.reserved != 0)
        return -EOPNOTSUPP;
    if ((map.flags & devices::vfio::uapi::IoasMap::flag_fixed_iova) == 0)
        return -EOPNOTSUPP; // no test lets the kernel choose
    if (map.iova + map.length - 1 < map.iova)
        return -EOVERFLOW;
    if (map.length == 0 || ((map.iova | map.length) & 0xfff) != 0)
        return -EINVAL;
    if (overlaps(map.iova, map.iova + map.length - 1))
        return -EEXIST;
    if (!usable(map.iova, map.iova + map.length - 1))
        return -EINVAL;
    return pin(map.iova, {map.length, map.user_va, map.flags});
}

int VfioDma::unmap_ioas(devices::vfio::uapi::IoasUnmap& unmap) {
    if (unmap.iova == 0 && unmap.length == ~std::uint64_t{0}) {
        unmap.length = remove(0, ~std::uint64_t{0});
        return 0;
    }
    if (unmap.length == 0)
        return -EINVAL;
    const auto last = unmap.iova + unmap.length - 1;
    if (last < unmap.iova)
        return -EOVERFLOW;
    if (last == ~std::uint64_t{0} && rules_.wrong_at_the_end)
        return -EINVAL;
    if (cut(unmap.iova))
        return -ENOENT;
    const auto tail = last != ~std::uint64_t{0} && cut(last + 1) ? std::prev(mappings_.upper_bound(last))->first : 0;
    unmap.length = remove(unmap.iova, tail != 0 ? tail - 1 : last);
    return tail != 0 || unmap.length == 0 ? -ENOENT : 0;
}

bool VfioDma::overlaps(std::uint64_t first, std::uint64_t last) const {
    return std::ranges::any_of(
        mappings_, [&](const auto& one) { return one.first <= last && first <= one.first + one.second.size - 1; });
}

bool VfioDma::usable(std::uint64_t first, std::uint64_t last) const {
    return std::ranges::any_of(rules_.ranges,
                               [&](const auto& range) { return range.first <= first && last <= range.second; });
}

bool VfioDma::cut(std::uint64_t address) const {
    return std::ranges::any_of(
        mappings_, [&](const auto& one) { return one.first < address && address <= one.first + one.second.size - 1; });
}

int VfioDma::pin(std::uint64_t iova, Mapping mapping) {
    if (rules_.fail_next_maps != 0 && rules_.fail_after-- == 0)
        return -std::exchange(rules_.fail_next_maps, 0);
    if (rules_.locked_limit && rules_.locked + mapping.size > *rules_.locked_limit)
        return -ENOMEM;
    rules_.locked += mapping.size;
    mappings_.emplace(iova, mapping);
    return 0;
}

std::uint64_t VfioDma::remove(std::uint64_t first, std::uint64_t last) {
    std::uint64_t removed = 0;
    std::erase_if(mappings_, [&](const auto& one) {
        if (one.first < first || one.first > last)
            return false;
        removed += one.second.size;
        return true;
    });
    rules_.locked -= removed;
    return removed;
}

int VfioDma::nothing(std::uint64_t removed) const { return removed == 0 && rules_.enoent_for_nothing ? -ENOENT : 0; }

} // namespace inox::fakes
