// SPDX-License-Identifier: Apache-2.0
// What is asked of a vsock device.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace inox::devices::virtio {

struct VsockOptions {
    std::string id{"vsock0"};                        ///< for people
    std::uint64_t guest_cid{};                       ///< 3..0xfffffffe
    std::string uds_path{};                          ///< up to VsockListener::longest_uds_path bytes
    std::chrono::milliseconds request_timeout{5000}; ///< for a guest's answer to CONNECT
    bool operator==(const VsockOptions&) const = default;
};

} // namespace inox::devices::virtio
