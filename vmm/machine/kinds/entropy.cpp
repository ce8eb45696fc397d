// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/entropy.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/device_table.hpp"

namespace inox {

using devices::virtio::EntropyOptions;

template <>
Result<OpenedDevice> Maker<EntropyOptions>::open(const EntropyOptions& entropy, const OpeningContext& context) {
    return OpenedDevice{TRY(devices::virtio::Entropy::create(entropy, context.loop))};
}

template <> Result<NewDevice> Maker<EntropyOptions>::make(const EntropyOptions& /*entropy*/, OpenedDevice opened,
                                                          PlatformParts& /*parts*/) {
    return NewDevice{.device = std::move(opened.virtio)};
}

template <> std::size_t Maker<EntropyOptions>::descriptors(const EntropyOptions& /*entropy*/) {
    return usual_descriptors;
}

} // namespace inox
