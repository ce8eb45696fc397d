// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/listener.hpp"
#include "vmm/host/host_check.hpp"

namespace inox {

using devices::virtio::VsockOptions;

template <> Result<void> HostCheck<VsockOptions>::check(const VsockOptions& vsock, HostChecks& /*checks*/) {
    return vsock.uds_path.empty() ? Result<void>{} : devices::virtio::VsockListener::check(vsock.uds_path);
}

} // namespace inox
