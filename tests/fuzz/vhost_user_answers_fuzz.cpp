// SPDX-License-Identifier: Apache-2.0
// What a vhost-user daemon sends back, in any bytes, while a whole conversation goes on: connect, features, memory, two
// rings. Whatever the input, each call ends with a result or an error that names the socket, long before its time.
//
//   input   what else happens (`Happens`), then the daemon's bytes; its end closes behind them
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

enum Happens : std::uint8_t {
    cancelled = 1,  ///< the device is reset meanwhile
    absent = 2,     ///< nobody listens
    deaf = 4,       ///< the daemon accepts nobody, until the device is reset
    outside = 8,    ///< the guest's rings lie outside its memory
    leaves = 16,    ///< the daemon is gone without having read
    long_path = 32, ///< than a socket's may be
};

struct Target {
    fakes::TemporaryFolder folder{};
    std::string path{folder.path + "/daemon"};
    UniqueFd listener = listen(path, 4);
    std::string deaf_path{folder.path + "/deaf"};
    UniqueFd deaf_listener = listen(deaf_path, 0);
    UniqueFd first{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)}; ///< whom it has not accepted yet
    EventFd cancel{*EventFd::create()};
    EventFd kick{*EventFd::create()};
    EventFd call{*EventFd::create()};
    GuestMemory memory{*GuestMemory::create(4 * MiB, HugePages::none, GuestMemory::Sharing::needed)};

    Target() {
        const auto name = address(deaf_path);
        require(::connect(first.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0); // NOLINT
    }
    static sockaddr_un address(const std::string& path) {
        sockaddr_un name{.sun_family = AF_UNIX, .sun_path = {}};
        path.copy(name.sun_path, sizeof name.sun_path - 1);
        return name;
    }
    static UniqueFd listen(const std::string& path, int backlog) {
        UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        const auto name = address(path);
        require(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 && // NOLINT
                ::listen(socket.get(), backlog) == 0);
        return socket;
    }

    /// Sends the bytes to the next who connects, then takes what comes until the other side has closed.
    void serve(std::span<const std::byte> bytes, bool reads) {
        const UniqueFd peer{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
        require(peer.get() >= 0);
        while (!bytes.empty()) {
            const auto sent = ::send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0)
                break;
            bytes = bytes.subspan(static_cast<std::size_t>(sent));
        }
        if (!reads)
            return;
        ::shutdown(peer.get(), SHUT_WR);
        std::array<std::byte, 4096> drain{};
        while (::recv(peer.get(), drain.data(), drain.size(), 0) > 0) {
        }
    }

    Result<void> converse(bool in_memory) {
        auto daemon = TRY(VhostUser::connect(path, cancel.fd()));
        daemon.begin();
        TRY_VOID(daemon.set_features(daemon.features()));
        TRY_VOID(daemon.share_memory(memory));
        const Iova used{in_memory ? 0x2000U : 4 * MiB - 8};
        for (const unsigned index : {0U, 1U})
            TRY_VOID(daemon.start_ring({index, {64, Iova{0}, Iova{0x1000}, used}, kick.fd(), call.fd()}, memory));
        for (const unsigned index : {0U, 1U})
            TRY_VOID(daemon.stop_ring(index));
        require(!daemon.unasked().what.empty());
        return {};
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static Target target;
    fuzz::Input input{std::as_bytes(std::span{data, size})};
    const auto happens = input.take<std::uint8_t>();
    const auto start = std::chrono::steady_clock::now();
    if ((happens & (cancelled | deaf)) != 0)
        target.cancel.signal();
    if ((happens & (absent | deaf | long_path)) != 0) {
        const auto path = (happens & deaf) != 0     ? target.deaf_path
                          : (happens & absent) != 0 ? target.path + "-"
                                                    : std::string(200, 'p');
        require(!VhostUser::connect(path, target.cancel.fd()));
        require(VhostUser::check(path).has_value() == ((happens & deaf) != 0));
    } else {
        const std::jthread daemon{[&] { target.serve(input.take(size), (happens & leaves) == 0); }};
        const auto result = target.converse((happens & outside) == 0);
        require(result || (happens & outside) != 0 || result.error().what.find(target.path) != std::string::npos);
    }
    target.cancel.drain();
    // The daemon's end is there at once, so nothing has to wait for the whole of a conversation's time.
    require(std::chrono::steady_clock::now() - start < 10 * VhostUser::conversation_time);
    return 0;
}
