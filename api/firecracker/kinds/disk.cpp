// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;

template <> void DeviceView<DriveConfig>::add(Json& whole, const DriveConfig& disk, const Config& /*config*/) {
    static constexpr const char* caches[] = {"Unsafe", "Writeback", "Writethrough"};
    static constexpr const char* engines[] = {nullptr, "Sync", "Async"}; // Firecracker has no Auto
    const char* engine = engines[static_cast<std::size_t>(disk.block.engine)];
    Json json{{"drive_id", disk.block.id},
              {"partuuid", or_null(disk.partuuid)},
              {"is_root_device", disk.root},
              {"cache_type", caches[static_cast<std::size_t>(disk.block.cache)]},
              {"is_read_only", disk.block.read_only},
              {"path_on_host", disk.block.path},
              {"rate_limiter", limits_json(disk.block.limits)},
              {"io_engine", engine == nullptr ? Json(nullptr) : Json(engine)},
              {"socket", nullptr}};
    if (disk.block.queues != 1)
        json["queues"] = disk.block.queues;
    if (!disk.block.serial.empty())
        json["serial"] = disk.block.serial;
    if (disk.block.contents == devices::virtio::ImageContents::anything)
        json["format"] = "raw";
    if (disk.block.temporary)
        json["temporary"] = true;
    whole["drives"].push_back(std::move(json));
}

} // namespace inox::api
