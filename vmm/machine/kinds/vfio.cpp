// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/assigned_devices.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/platform_parts.hpp"

namespace inox {

template <>
Result<OpenedDevice> Maker<VfioConfig>::open(const VfioConfig& /*device*/, const OpeningContext& /*context*/) {
    return OpenedDevice{};
}

template <>
Result<NewDevice> Maker<VfioConfig>::make(const VfioConfig& device, OpenedDevice /*opened*/, PlatformParts& parts) {
    return NewDevice{.function = TRY(parts.use_assigned().make(device, parts.listener(device_name(device))))};
}

/// Device, group, error and request events, the vectors of an ordinary device.
template <> std::size_t Maker<VfioConfig>::descriptors(const VfioConfig& /*device*/) { return 48; }

} // namespace inox
