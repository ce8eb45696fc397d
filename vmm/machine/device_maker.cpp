// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/device_maker.hpp"

#include "vmm/machine/device_table.hpp"
#include "vmm/machine/preparation.hpp"

namespace inox {

Result<OpenedDevice> open_device(const DeviceConfig& device, const OpeningContext& context) {
    return std::visit([&]<class Options>(const Options& one) { return Maker<Options>::open(one, context); }, device);
}

Result<std::vector<OpenedDevice>> open_devices(const Config& config, const OpeningContext& context) {
    std::vector<OpenedDevice> opened;
    for (const auto& device : placed_devices(config))
        opened.push_back(TRY(placed(open_device(*device.config, context), device.where)));
    return opened;
}

Result<NewDevice> make_device(const DeviceConfig& device, OpenedDevice opened, PlatformParts& parts) {
    return std::visit(
        [&]<class Options>(const Options& one) { return Maker<Options>::make(one, std::move(opened), parts); }, device);
}

} // namespace inox
