// SPDX-License-Identifier: Apache-2.0
// The parts of an assigned device's BARs that the guest reaches without an exit.
#pragma once

#include <array>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "devices/pci/config_space.hpp"
#include "devices/vfio/host_device.hpp"
#include "vmm/bus/guest_mappings.hpp"

namespace inox::devices::vfio {

/// What of a region may appear in the guest: what the host lets map, in whole pages, without the pages of `trapped`.
/// Sorted. A region below a page has none: the rest of its page is not the guest's.
std::vector<RegionArea> exitless_areas(const RegionInfo& region, std::span<const RegionArea> trapped);

/// Thread-safe.
class BarMappings {
public:
    explicit BarMappings(GuestMappings& guest) : guest_{guest} {}

    /// Before the guest runs. An area that the host refuses stays trapped, with a log line.
    void prepare(const HostDevice& device, unsigned bar, const RegionInfo& region, std::span<const RegionArea> trapped);
    /// The BAR answers at this address.
    void show(unsigned bar, Gpa address) noexcept;
    /// It does so no more.
    void hide(unsigned bar) noexcept;
    /// Takes all away from the guest for good. inox keeps its own view until this dies: other devices may reach it.
    void close() noexcept;
    struct Shown {
        Range<Gpa> range;
        std::span<std::byte> host; ///< valid as long as this lives
    };
    /// What the guest reaches now.
    [[nodiscard]] std::vector<Shown> shown() const;

private:
    struct Piece {
        RegionArea area{};
        Mapping host{};
        bool read_only{};
        std::optional<Range<Gpa>> at{};
        Registration guest{}; ///< while `at` has a value
    };
    using Pieces = std::vector<Piece>;

    GuestMappings& guest_;
    mutable std::mutex mutex_; // guards all below
    std::array<Pieces, pci::bar_count> pieces_{};
    bool closed_{};
};

} // namespace inox::devices::vfio
