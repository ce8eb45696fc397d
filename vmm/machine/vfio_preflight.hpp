// SPDX-License-Identifier: Apache-2.0
// Whether this host can give the devices of a configuration to its guest, found out without opening one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "devices/vfio/device.hpp"
#include "devices/vfio/lock_limit.hpp"
#include "vmm/machine/config.hpp"

namespace vmm {

/// What assigned devices take of host and guest.
struct VfioNeeds {
    struct Device {
        std::string host{};
        std::optional<unsigned> group{};
        devices::vfio::Backend backend{};
        unsigned bars{};
        std::uint64_t bar_bytes{}; ///< of those in memory
        unsigned vectors{};
    };
    std::vector<Device> devices{}; ///< those the host has
    std::size_t groups{};
    std::uint64_t locked{}; ///< bytes that DMA pins from the start: guest memory, once for each group
    std::optional<std::uint64_t> lock_limit{};
    std::uint64_t bars_32{}; ///< bytes of BARs that have to lie below 4 GiB
    std::uint64_t bars_64{}; ///< and of those that need not
    unsigned io_bars{};
    unsigned vectors{};
};
struct VfioFindings {
    std::vector<Error> problems{};
    VfioNeeds needs{};
};

/// Every problem, with the JSON pointer of the device in `where`, and the sums they come from. `root` is put before
/// every path of /sys, /proc and /dev; `limit`: this process's own.
VfioFindings vfio_preflight(const Config& config, const std::string& root,
                            std::optional<devices::vfio::LockLimit> limit = {});

/// A line for each device and one for all together; empty without devices.
std::string vfio_needs_text(const VfioNeeds& needs);

} // namespace vmm
