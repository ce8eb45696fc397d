// SPDX-License-Identifier: Apache-2.0
// The kernel's documented rules for DMA mappings: those of the type1 v2 container, and those of an IOAS of iommufd.
#pragma once

#include <linux/vfio.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "devices/vfio/iommufd_uapi.hpp"

namespace inox::fakes {

/// What both kinds draw from and obey.
struct VfioDmaRules {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges{{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}};
    std::uint64_t page_sizes{0x40201000};
    bool range_list{true}; ///< the container tells its ranges and what is left of its mappings
    bool unmap_all{true};
    bool enoent_for_nothing{false};              ///< iommufd in the container's place, before Linux 6.19
    bool wrong_at_the_end{false};                ///< a range up to 2^64 - 1 is refused
    std::uint32_t entry_limit{65535};            ///< mappings in a container
    std::optional<std::uint64_t> locked_limit{}; ///< bytes
    std::uint64_t locked{};                      ///< bytes
    int fail_next_maps{};                        ///< errno of the map calls from `fail_after` on
    unsigned fail_after{};
};

class VfioDma {
public:
    struct Mapping {
        std::uint64_t size;
        std::uint64_t vaddr;
        std::uint32_t flags;
    };

    explicit VfioDma(VfioDmaRules& rules) : rules_{rules} {}
    VfioDma(const VfioDma&) = delete;
    VfioDma& operator=(const VfioDma&) = delete;
    ~VfioDma() { clear(); }

    [[nodiscard]] const std::map<std::uint64_t, Mapping>& mappings() const { return mappings_; }
    void clear();

    int map_type1(const vfio_iommu_type1_dma_map& map);

    int unmap_type1(vfio_iommu_type1_dma_unmap& unmap);

    int map_ioas(const devices::vfio::uapi::IoasMap& map);

    /// Not atomic: what lies below a mapping that sticks out is gone.
    int unmap_ioas(devices::vfio::uapi::IoasUnmap& unmap);

private:
    [[nodiscard]] std::uint64_t granule() const { return rules_.page_sizes & (~rules_.page_sizes + 1); }
    [[nodiscard]] bool overlaps(std::uint64_t first, std::uint64_t last) const;
    [[nodiscard]] bool usable(std::uint64_t first, std::uint64_t last) const;
    /// Whether a boundary before this address goes through a mapping.
    [[nodiscard]] bool cut(std::uint64_t address) const;
    int pin(std::uint64_t iova, Mapping mapping);
    std::uint64_t remove(std::uint64_t first, std::uint64_t last);
    [[nodiscard]] int nothing(std::uint64_t removed) const;

    VfioDmaRules& rules_;
    std::map<std::uint64_t, Mapping> mappings_{};
};

} // namespace inox::fakes
