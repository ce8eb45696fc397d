// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/block.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/device_table.hpp"

namespace inox {

template <> Result<OpenedDevice> Maker<DriveConfig>::open(const DriveConfig& drive, const OpeningContext& context) {
    return OpenedDevice{TRY(devices::virtio::Block::create(drive.block, context.loop))};
}

template <>
Result<NewDevice> Maker<DriveConfig>::make(const DriveConfig& drive, OpenedDevice opened, PlatformParts& /*parts*/) {
    return NewDevice{.device = std::move(opened.virtio), .permanent = drive.root};
}

template <> std::size_t Maker<DriveConfig>::descriptors(const DriveConfig& drive) {
    return virtio_descriptors(drive.block.queues);
}

} // namespace inox
