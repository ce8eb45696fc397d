// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/port.hpp"

#include <cerrno>
#include <cstring>

namespace inox::devices::virtio {

ssize_t NetPort::read(unsigned pair, std::span<const iovec> pieces) noexcept {
    const ssize_t got = ::readv(fd(pair), pieces.data(), static_cast<int>(pieces.size()));
    return got < 0 ? -errno : got;
}

ssize_t NetPort::write(unsigned pair, std::span<const iovec> pieces) noexcept {
    const ssize_t sent = ::writev(fd(pair), pieces.data(), static_cast<int>(pieces.size()));
    return sent < 0 ? -errno : sent;
}

std::string NetPort::why_lost(int error) { return std::strerror(error); }

} // namespace inox::devices::virtio
