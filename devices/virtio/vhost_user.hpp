// SPDX-License-Identifier: Apache-2.0
// The front end of the vhost-user protocol: a daemon on the other side of a unix socket serves a device's queues. It
// gets guest memory by descriptor and reaches nothing else of ours.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/virtio/queue.hpp"
#include "vmm/base/os.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace devices::virtio {

/// One connection. Calls block for the daemon's answer, at most answer_time. Errors name the socket.
class VhostUser {
public:
    static constexpr int answer_time_ms = 5000;

    /// not_found when nobody listens there.
    static vmm::Result<VhostUser> connect(const std::string& path);

    /// Whether there is a socket to connect to. It is left alone: a daemon ends with its first connection.
    static vmm::Result<void> check(const std::string& path);

    /// Features of the daemon's device, after the protocol's own set-up.
    [[nodiscard]] std::uint64_t features() const { return features_; }
    vmm::Result<void> set_features(std::uint64_t features);
    vmm::Result<void> share_memory(const vmm::GuestMemory& memory);

    struct Ring {
        unsigned index;
        const QueueLayout& layout; ///< addresses are guest-physical
        const vmm::EventFd& kick;
        const vmm::EventFd& call;
    };
    vmm::Result<void> start_ring(const Ring& ring, const vmm::GuestMemory& memory);
    /// The daemon touches the ring's memory no more when this returns without error.
    vmm::Result<void> stop_ring(unsigned index);
    [[nodiscard]] int fd() const { return socket_.get(); }

private:
    enum class Request : std::uint32_t;
    VhostUser(std::string path, vmm::UniqueFd socket) : path_{std::move(path)}, socket_{std::move(socket)} {}
    vmm::Result<void> negotiate();
    vmm::Result<void> send(Request request, std::span<const std::byte> body, std::span<const int> fds = {},
                           bool acknowledge = true);
    vmm::Result<std::uint64_t> ask(Request request, std::span<const std::byte> body = {});
    vmm::Result<std::vector<std::byte>> receive(Request request);
    [[nodiscard]] std::unexpected<vmm::Error> broken(const char* what) const;

    std::string path_;
    vmm::UniqueFd socket_;
    std::uint64_t features_{};
    bool acknowledges_{false}; ///< the daemon answers every message when asked to
};

} // namespace devices::virtio
