// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/entropy.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/device_table.hpp"

namespace inox {

template <> Result<OpenedDevice> Maker<ToyConfig>::open(const ToyConfig& toy, const OpeningContext& context) {
    return OpenedDevice{TRY(devices::virtio::Entropy::create({.id = toy.id}, context.loop))};
}

template <>
Result<NewDevice> Maker<ToyConfig>::make(const ToyConfig& /*toy*/, OpenedDevice opened, PlatformParts& /*parts*/) {
    return NewDevice{.device = std::move(opened.virtio)};
}

template <> std::size_t Maker<ToyConfig>::descriptors(const ToyConfig& /*toy*/) { return usual_descriptors; }

} // namespace inox
