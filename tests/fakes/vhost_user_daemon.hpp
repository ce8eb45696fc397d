// SPDX-License-Identifier: Apache-2.0
// The other end of a vhost-user socket, for tests: answers as the protocol says, or as it must not. It serves one
// connection after the other on a thread of its own.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <poll.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "devices/virtio/device.hpp"
#include "vmm/base/os.hpp"

namespace inox::fakes {

class VhostUserDaemon {
public:
    enum class Manner {
        good,
        silent,        ///< takes every message, answers none
        drips,         ///< answers one byte every 100 ms
        truncates,     ///< half an answer, then the end
        short_answer,  ///< a whole answer of 4 bytes instead of 8
        wrong_answer,  ///< to another request
        refuses,       ///< every message that is to be acknowledged
        hangs_at_stop, ///< good until a ring is to stop
        not_accepting, ///< listens only
        without_rings, ///< lacks the ring features
    };

    VhostUserDaemon(std::string path, Manner manner);
    ~VhostUserDaemon();
    VhostUserDaemon(const VhostUserDaemon&) = delete;
    VhostUserDaemon& operator=(const VhostUserDaemon&) = delete;

    /// How often a message came.
    unsigned count(std::uint32_t request);
    /// Guest memory as it was given; -1 before.
    int memory();
    /// Says something that nobody asked for.
    void speak() { next_ = Act::speak; }
    /// Ends the connection; it is closed when this returns.
    void hang_up();

    static constexpr std::uint32_t set_memory = 5;
    static constexpr std::uint32_t enable_ring = 18;
    static constexpr std::uint32_t stop_ring = 11;

private:
    enum class Act { none, speak, hang_up };
    struct Header {
        std::uint32_t request, flags, size;
    };

    void serve(const std::stop_token& stop);

    bool converse(int peer, const std::stop_token& stop);

    static std::optional<std::size_t> receive(int peer, Header& header, std::array<int, 8>& fds);

    void take(std::uint32_t request, std::span<const int> fds);

    bool answer(int peer, const Header& header, std::span<const std::byte> body, const std::stop_token& stop);

    std::string path_;
    Manner manner_;
    UniqueFd listener_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::atomic<Act> next_{Act::none};
    std::atomic<unsigned> closed_{0};
    std::mutex mutex_{}; // guards the two below
    std::map<std::uint32_t, unsigned> requests_{};
    UniqueFd memory_{};
    std::jthread thread_{}; // last: it uses all of the above
};

} // namespace inox::fakes
