// SPDX-License-Identifier: Apache-2.0
// The configuration as Firecracker's clients read it: GET /vm/config, /machine-config, /balloon.
#pragma once

#include <nlohmann/json.hpp>

#include "vmm/config/config_file.hpp"

namespace inox::api {

nlohmann::ordered_json machine_config_json(const MachineConfig& config);
nlohmann::ordered_json drive_json(const DriveConfig& drive);
nlohmann::ordered_json net_json(const devices::virtio::NetOptions& net);
nlohmann::ordered_json balloon_json(const devices::virtio::BalloonOptions& balloon);
/// Every section, null where there is nothing.
nlohmann::ordered_json vm_config_json(const ConfigFile& file);

} // namespace inox::api
