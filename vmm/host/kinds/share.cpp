// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vhost_user.hpp"
#include "vmm/host/host_check.hpp"
#include "vmm/share/process.hpp"

namespace inox {

using devices::virtio::FsOptions;

template <> Result<void> HostCheck<FsOptions>::check(const FsOptions& options, HostChecks& /*checks*/) {
    if (!options.path.empty()) {
        TRY_VOID(share::open_folder(options.path));
        return {};
    }
    return options.socket.empty() ? Result<void>{} : devices::virtio::VhostUser::check(options.socket);
}

} // namespace inox
