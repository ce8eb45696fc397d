// SPDX-License-Identifier: Apache-2.0
// Frames from a guest to the metadata service, raw or as segments of a few connections, and time that passes. Whatever
// comes, what it sends is well-formed, and ends; and it holds a bounded number of connections.

#include "tests/fakes/mmds_guest.hpp"
#include "tests/fuzz/input.hpp"
#include "vmm/base/bytes.hpp"

using namespace inox;

namespace {

using namespace devices::mmds;
using fuzz::Input;
using fuzz::require;

/// A client that knows the correct numbers, and often sends others.
struct Client {
    std::uint16_t port{};
    std::uint32_t sequence{};
    std::uint32_t expected{};
};

struct Target {
    fakes::MmdsGuest guest;
    std::array<Client, 20> clients{};

    /// `how`: bit 0: no token is needed; bit 1: text even where JSON is asked for.
    explicit Target(std::uint8_t how)
        : guest{{.version = (how & 1) != 0 ? Version::v1 : Version::v2, .always_text = (how & 2) != 0}} {
        for (std::size_t i = 0; i < clients.size(); ++i)
            clients[i].port = static_cast<std::uint16_t>(1000 + i);
    }

    void drain() {
        // A burst is at most each connection's window in the smallest segments, and a few frames more.
        constexpr std::size_t most = Stack::max_connections * (65536 / 64 + 8) + 16;
        std::vector<std::byte> frame(Stack::frame_size);
        std::size_t count = 0;
        for (; count < most; ++count) {
            const auto size = guest.stack.next(frame, guest.now);
            if (size == 0)
                break;
            require(size <= frame.size() && size >= 42);
            const auto bytes = std::span<const std::byte>{frame}.first(size);
            if (bytes[13] == std::byte{6})
                continue;
            const auto parsed = parse_segment(bytes, fakes::MmdsGuest::self.address);
            if (!parsed) // the answer to a raw frame from another address
                continue;
            for (Client& client : clients)
                if (client.port == parsed->segment.destination_port)
                    client.expected = parsed->segment.sequence +
                                      static_cast<std::uint32_t>(parsed->segment.payload.size()) +
                                      (parsed->segment.has(tcp_flag::syn) ? 1 : 0);
        }
        require(count < most);
        require(guest.stack.connections() <= Stack::max_connections);
    }

    void segment(Input& input) {
        Client& client = clients[input.take<std::uint8_t>() % clients.size()];
        const auto flags = static_cast<std::uint8_t>(input.take<std::uint8_t>() & 0x1f);
        const auto shift = input.take<std::uint8_t>(); // mostly the correct place
        const auto payload = input.take(input.take<std::uint8_t>());
        guest.port = client.port;
        guest.expected = client.expected + (shift > 240 ? shift : 0);
        guest.window = static_cast<std::uint16_t>(shift < 200 ? 65535 : shift * 16 - 3200);
        const std::string text{reinterpret_cast<const char*>(payload.data()), payload.size()}; // NOLINT: bytes as text
        guest.send_at(client.sequence - shift % 8, flags, text);
        client.sequence +=
            static_cast<std::uint32_t>(payload.size()) + ((flags & (tcp_flag::syn | tcp_flag::fin)) != 0 ? 1 : 0);
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input{std::as_bytes(std::span{data, size})};
    Target target{input.take<std::uint8_t>()};
    target.guest.metadata.text["/a"] = std::string(5000, 'a');
    while (!input.empty()) {
        switch (input.take<std::uint8_t>() % 4) {
        case 0: {
            std::vector<std::byte> frame(input.take<std::uint8_t>() * 8U);
            std::ranges::copy(input.take(frame.size()), frame.begin());
            (void)parse_ipv4({reinterpret_cast<const char*>(frame.data()), frame.size()}); // NOLINT: bytes as text
            (void)target.guest.stack.wants(frame);
            target.guest.stack.take(frame, target.guest.now);
            break;
        }
        case 1:
            target.guest.now += std::chrono::milliseconds{input.take<std::uint8_t>() * 20};
            break;
        default:
            target.segment(input);
        }
        target.drain();
    }
    // When no more frames come, it sends nothing after a while.
    for (unsigned i = 0; i < Stack::max_connections * TcpConnection::max_tries * 2; ++i) {
        const auto deadline = target.guest.stack.deadline();
        if (!deadline)
            break;
        target.guest.now = std::max(target.guest.now, *deadline);
        target.drain();
    }
    require(!target.guest.stack.deadline());
    return 0;
}
