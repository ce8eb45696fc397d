// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace inox::devices::vfio {

/// What happened to a device behind the guest's back.
struct HostDeviceEvent {
    enum class What : std::uint8_t {
        failed,       ///< it reported an error or is gone; the guest no longer sees it
        asked_back,   ///< the host wants it: remove it, which closes it
        cannot_reset, ///< the next user will find what the last one left in it
    };
    What what{};
    std::string text{}; ///< names the device
};

} // namespace inox::devices::vfio
