// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/file.hpp"
#include "vmm/host/host_check.hpp"

namespace inox {

template <> Result<void> HostCheck<DriveConfig>::check(const DriveConfig& drive, HostChecks& checks) {
    if (drive.block.path.empty())
        return {};
    // A disk whose options were not all read may be meant to be read-only.
    auto options = drive.block;
    options.read_only |= !checks.whole;
    using devices::virtio::BlockFile;
    auto image = TRY(BlockFile::open(options));
    checks.held.push_back(std::make_shared<BlockFile>(std::move(image)));
    return {};
}

} // namespace inox
