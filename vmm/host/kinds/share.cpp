// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vhost_user.hpp"
#include "vmm/host/host_check.hpp"

namespace inox {

using devices::virtio::FsOptions;

template <> Result<void> HostCheck<FsOptions>::check(const FsOptions& share, HostChecks& /*checks*/) {
    return share.socket.empty() ? Result<void>{} : devices::virtio::VhostUser::check(share.socket);
}

} // namespace inox
