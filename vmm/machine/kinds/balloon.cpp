// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon.hpp"
#include "vmm/machine/assigned_devices.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/platform_parts.hpp"

namespace inox {

using devices::virtio::BalloonOptions;

template <>
Result<OpenedDevice> Maker<BalloonOptions>::open(const BalloonOptions& balloon, const OpeningContext& context) {
    return OpenedDevice{TRY(devices::virtio::Balloon::create(balloon, context.loop, context.memory))};
}

template <> Result<NewDevice> Maker<BalloonOptions>::make(const BalloonOptions& /*balloon*/, OpenedDevice opened,
                                                          PlatformParts& parts) {
    const auto balloon = std::static_pointer_cast<devices::virtio::Balloon>(opened.virtio);
    if (parts.assigned)
        balloon->pin_memory();
    parts.balloon = balloon;
    return NewDevice{.device = balloon};
}

template <> std::size_t Maker<BalloonOptions>::descriptors(const BalloonOptions& /*balloon*/) {
    return usual_descriptors;
}

} // namespace inox
