// SPDX-License-Identifier: Apache-2.0
// What is asked of a host device.
#pragma once

#include <cstdint>
#include <string>

namespace inox::devices::vfio {

/// Kernel interface for assignment.
enum class Backend : std::uint8_t {
    automatic, ///< iommufd where host and device have it, else the container
    container, ///< /dev/vfio/vfio and a group
    iommufd,   ///< /dev/iommu and the device's own file
};

const char* backend_name(Backend backend);

/// Descriptors that a launcher opened; -1: inox opens the file itself. inox makes them close-on-exec and owns the
/// device's; the others stay open until inox ends.
struct OpenFiles {
    int container{-1};
    int group{-1};
    int iommufd{-1};
    int device{-1};
    [[nodiscard]] bool any() const { return *this != OpenFiles{}; }
    bool operator==(const OpenFiles&) const = default;
};

struct OpenOptions {
    std::string id{};   ///< names the device in messages
    std::string host{}; ///< "0000:01:00.0", "01:00.0", or its directory in sysfs
    Backend backend{Backend::automatic};
    OpenFiles files{};
    std::string vf_token{}; ///< UUID shared with the owner of the physical function; empty for none
    /// Devices are to reach each other's BARs: Backend::automatic takes the container, which can map them.
    bool p2p{false};
    bool operator==(const OpenOptions&) const = default;
};

} // namespace inox::devices::vfio
