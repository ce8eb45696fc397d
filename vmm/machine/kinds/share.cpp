// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/fs.hpp"
#include "devices/virtio/fs_folder.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/device_table.hpp"

namespace inox {

using devices::virtio::FsOptions;

template <> Result<OpenedDevice> Maker<FsOptions>::open(const FsOptions& share, const OpeningContext& context) {
    if (!share.path.empty())
        return OpenedDevice{TRY(devices::virtio::FsFolder::create(share, context.loop))};
    return OpenedDevice{TRY(devices::virtio::Fs::create(share, context.loop, context.memory))};
}

template <>
Result<NewDevice> Maker<FsOptions>::make(const FsOptions& /*share*/, OpenedDevice opened, PlatformParts& /*parts*/) {
    return NewDevice{.device = std::move(opened.virtio)};
}

template <> std::size_t Maker<FsOptions>::descriptors(const FsOptions& share) {
    constexpr std::size_t server = 5; // the folder, the process, its socket, and what watches that
    return usual_descriptors + (share.path.empty() ? 0 : server);
}

} // namespace inox
