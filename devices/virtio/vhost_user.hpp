// SPDX-License-Identifier: Apache-2.0
// The front end of the vhost-user protocol: a daemon on the other side of a unix socket serves a device's queues. It
// gets guest memory by descriptor and reaches nothing else of ours.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "devices/virtio/queue.hpp"
#include "vmm/base/os.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::devices::virtio {

/// One connection. Calls block for the daemon, so they belong on a thread that nothing else waits for. A conversation
/// is what happens between two calls of begin(): all its messages together take at most conversation_time, and it ends
/// at once when `cancel` becomes readable. After an error the connection is of no more use. Errors name the socket.
class VhostUser {
public:
    static constexpr std::chrono::milliseconds conversation_time{2000};

    /// Connects and agrees on features: the first conversation. `cancel` is a descriptor that outlives the connection.
    /// not_found when nobody listens there.
    static Result<VhostUser> connect(const std::string& path, int cancel);

    /// Whether there is a socket to connect to. It is left alone: a daemon ends with its first connection.
    static Result<void> check(const std::string& path);

    /// Starts the next conversation's clock.
    void begin() { deadline_ = std::chrono::steady_clock::now() + conversation_time; }

    /// Features of the daemon's device, after the protocol's own set-up.
    [[nodiscard]] std::uint64_t features() const { return features_; }
    Result<void> set_features(std::uint64_t features);
    Result<void> share_memory(const GuestMemory& memory);

    struct Ring {
        unsigned index;
        QueueLayout layout; ///< addresses are guest-physical
        int kick;           ///< event descriptors, which outlive the ring
        int call;
    };
    Result<void> start_ring(const Ring& ring, const GuestMemory& memory);
    /// The daemon touches the ring's memory no more when this returns without error.
    Result<void> stop_ring(unsigned index);
    [[nodiscard]] int fd() const { return socket_.get(); }
    /// The error when the daemon's socket is readable between conversations, where the daemon must not send anything.
    [[nodiscard]] Error unasked() const;

private:
    enum class Request : std::uint32_t;
    VhostUser(std::string path, UniqueFd socket, int cancel)
        : path_{std::move(path)}, socket_{std::move(socket)}, cancel_{cancel} {}
    Result<void> negotiate();
    Result<void> wait(short events) const;
    Result<void> send_all(std::span<const std::byte> message, std::span<const int> fds);
    Result<void> send(Request request, std::span<const std::byte> body, std::span<const int> fds = {},
                      bool acknowledge = true);
    Result<std::uint64_t> ask(Request request, std::span<const std::byte> body = {});
    Result<std::uint64_t> receive(Request request);
    Result<void> take(std::span<std::byte> into);
    [[nodiscard]] std::unexpected<Error> broken(std::string_view what, int error = 0) const;

    std::string path_;
    UniqueFd socket_;
    int cancel_;
    std::chrono::steady_clock::time_point deadline_{};
    std::uint64_t features_{};
    bool acknowledges_{false}; ///< the daemon answers every message when asked to
};

} // namespace inox::devices::virtio
