// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/tap_check.hpp"

#include <sys/stat.h>

#include "devices/virtio/net/passt.hpp"
#include "devices/virtio/net/tap.hpp"

namespace inox {

Result<void> check_tap(const std::string& name, unsigned queue_pairs) {
    const auto tap = TRY(devices::virtio::Tap::create(name));
    return tap->check(queue_pairs);
}

Result<void> check_way(const devices::virtio::NetOptions& net) {
    if (net.user) {
        TRY(devices::virtio::Passt::find());
        return {};
    }
    if (!net.socket.empty()) {
        struct stat found {};
        if (::stat(net.socket.c_str(), &found) != 0)
            return fail_errno(Errc::host_error, "there is no socket '" + net.socket + "'", "start its owner first");
        if (!S_ISSOCK(found.st_mode))
            return fail(Errc::host_error, "'" + net.socket + "' is no socket", "name the peer's unix stream socket");
        return {};
    }
    return net.tap.empty() ? Result<void>{} : check_tap(net.tap, net.queue_pairs);
}

} // namespace inox
