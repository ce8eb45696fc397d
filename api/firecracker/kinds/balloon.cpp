// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;
using devices::virtio::BalloonOptions;

Json balloon_json(const devices::virtio::BalloonOptions& balloon) {
    return {{"amount_mib", balloon.target / MiB},
            {"deflate_on_oom", balloon.deflate_on_oom},
            {"stats_polling_interval_s", balloon.statistics_interval.count()},
            {"free_page_hinting", balloon.free_page_hinting},
            {"free_page_reporting", balloon.free_page_reporting}};
}

template <> void DeviceView<BalloonOptions>::add(Json& whole, const BalloonOptions& balloon, const Config& /*config*/) {
    whole["balloon"] = balloon_json(balloon);
}

} // namespace inox::api
