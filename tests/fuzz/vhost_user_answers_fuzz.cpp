// SPDX-License-Identifier: Apache-2.0
// What a vhost-user daemon sends back, in any bytes, while a whole conversation goes on: connect, features, memory, two
// rings. Whatever the input, each call ends with a result or an error that names the socket, long before its time.
//
//   input   the daemon's bytes; its end closes behind them
#include <chrono>
#include <thread>

#include "devices/virtio/device.hpp"
#include "devices/virtio/vhost_user.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/fuzz/input.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using namespace devices::virtio;
using fuzz::require;

struct Target {
    fakes::TemporaryFolder folder{};
    std::string path{folder.path + "/daemon"};
    UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    EventFd cancel{*EventFd::create()};
    EventFd kick{*EventFd::create()};
    EventFd call{*EventFd::create()};
    GuestMemory memory{*GuestMemory::create(4 * MiB, HugePages::none, GuestMemory::Sharing::needed)};

    Target() {
        sockaddr_un name{.sun_family = AF_UNIX, .sun_path = {}};
        path.copy(name.sun_path, sizeof name.sun_path - 1);
        require(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 && // NOLINT
                ::listen(listener.get(), 4) == 0);
    }

    /// Sends the bytes to the next who connects, then takes what comes until the other side has closed.
    void serve(std::span<const std::byte> bytes) {
        const UniqueFd peer{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
        require(peer.get() >= 0);
        while (!bytes.empty()) {
            const auto sent = ::send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0)
                break;
            bytes = bytes.subspan(static_cast<std::size_t>(sent));
        }
        ::shutdown(peer.get(), SHUT_WR);
        std::array<std::byte, 4096> drain{};
        while (::recv(peer.get(), drain.data(), drain.size(), 0) > 0) {
        }
    }

    Result<void> converse() {
        auto daemon = TRY(VhostUser::connect(path, cancel.fd()));
        daemon.begin();
        TRY_VOID(daemon.set_features(daemon.features()));
        TRY_VOID(daemon.share_memory(memory));
        for (const unsigned index : {0U, 1U})
            TRY_VOID(
                daemon.start_ring({index, {64, Iova{0}, Iova{0x1000}, Iova{0x2000}}, kick.fd(), call.fd()}, memory));
        for (const unsigned index : {0U, 1U})
            TRY_VOID(daemon.stop_ring(index));
        return {};
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static Target target;
    const auto bytes = std::as_bytes(std::span{data, size});
    const auto start = std::chrono::steady_clock::now();
    {
        const std::jthread daemon{[&] { target.serve(bytes); }};
        const auto result = target.converse();
        require(result || result.error().what.find(target.path) != std::string::npos);
    }
    // The daemon's end is there at once, so nothing has to wait for the whole of a conversation's time.
    require(std::chrono::steady_clock::now() - start < 10 * VhostUser::conversation_time);
    return 0;
}
