// SPDX-License-Identifier: Apache-2.0
// Whether this host can give the devices of a configuration to its guest.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "devices/vfio/options.hpp"
#include "vmm/config/config.hpp"
#include "vmm/memory/address_map.hpp"

namespace inox::devices::vfio {
class Kernel;
class LockLimit;
} // namespace inox::devices::vfio

namespace inox {

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
    std::uint64_t room_32{}; ///< bytes of the guest's windows
    std::uint64_t room_64{};
    unsigned io_bars{};
    unsigned vectors{};
};
struct VfioFindings {
    std::vector<Error> problems{};
    VfioNeeds needs{};
};

struct VfioHost {
    std::string root{};                         ///< before every path of /sys, /proc and /dev
    const devices::vfio::LockLimit* limit{};    ///< null: this process's own
    unsigned address_bits{host_address_bits()}; ///< of the guest's CPU
    devices::vfio::Kernel* kernel{};            ///< to open devices with; null: none is opened
};

/// Every problem, with the JSON pointer of the device in `where`, and the sums they come from. Devices without one are
/// opened as a start would, and closed: so one that another process has is found. The kernel resets them meanwhile.
VfioFindings vfio_preflight(const Config& config, const VfioHost& host);

/// A line for each device and one for all together; empty without devices.
std::string vfio_needs_text(const VfioNeeds& needs);

} // namespace inox
