// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/vsock.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/device_table.hpp"

namespace inox {

using devices::virtio::VsockOptions;

template <> Result<OpenedDevice> Maker<VsockOptions>::open(const VsockOptions& vsock, const OpeningContext& context) {
    return OpenedDevice{TRY(devices::virtio::Vsock::create(vsock, context.loop))};
}

template <> Result<NewDevice> Maker<VsockOptions>::make(const VsockOptions& /*vsock*/, OpenedDevice opened,
                                                        PlatformParts& /*parts*/) {
    return NewDevice{.device = std::move(opened.virtio)};
}

template <> std::size_t Maker<VsockOptions>::descriptors(const VsockOptions& /*vsock*/) { return usual_descriptors; }

} // namespace inox
