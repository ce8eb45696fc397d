// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/file.hpp"
#include "vmm/host/host_check.hpp"

namespace inox {

template <> Result<void> HostCheck<DriveConfig>::check(const DriveConfig& drive, HostChecks& checks) {
    if (drive.block.path.empty())
        return {};
    // A disk whose options were not all read may be meant to be read-only.
    const bool read_only = drive.block.read_only || !checks.whole;
    checks.images.push_back(TRY(devices::virtio::BlockFile::open(drive.block.path, read_only, drive.block.contents)));
    return {};
}

} // namespace inox
