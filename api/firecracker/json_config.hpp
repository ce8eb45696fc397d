// SPDX-License-Identifier: Apache-2.0
// The configuration as Firecracker's clients read it: GET /vm/config, /machine-config, /balloon.
#pragma once

#include <nlohmann/json.hpp>

#include "vmm/config/config_file.hpp"
#include "vmm/instance/instance.hpp"

namespace inox::api {

inline nlohmann::ordered_json or_null(const std::string& text) {
    return text.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(text);
}
template <class T, class F> nlohmann::ordered_json or_null(const std::optional<T>& value, F&& convert) {
    return value ? nlohmann::ordered_json(convert(*value)) : nlohmann::ordered_json(nullptr);
}
nlohmann::ordered_json bucket_json(const devices::BucketLimits& limits);
nlohmann::ordered_json limits_json(const devices::RateLimits& limits);

/// How a device is shown. What only inox has is there where it is configured: clients of Firecracker see Firecracker's
/// keys. Each kind defines it in kinds/; without it the program does not link.
template <class Options> struct DeviceView {
    /// Puts it into `whole`, which has Firecracker's keys, with null or an empty array.
    static void add(nlohmann::ordered_json& whole, const Options& options, const Config& config);
};

/// "Not started", "Running" or "Paused"; "Ended", which no client of Firecracker sees.
std::string_view state_text(Instance::State state);
nlohmann::ordered_json machine_config_json(const MachineConfig& config);
nlohmann::ordered_json balloon_json(const devices::virtio::BalloonOptions& balloon);
/// Every section, null where there is nothing.
nlohmann::ordered_json vm_config_json(const ConfigFile& file);

} // namespace inox::api
