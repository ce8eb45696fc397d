// SPDX-License-Identifier: Apache-2.0
// A network device over a stream: the peer is slow, fast, wrong, or gone.
#include "devices/virtio/net/stream_port.hpp"

#include <sys/un.h>

#include "devices/virtio/net/net.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/net_guest.hpp"
#include "tests/fakes/stream_peer.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_net_stream_test {

using namespace inox::devices::virtio;
using namespace std::chrono_literals;
using fakes::frame;
using tests::run_for;
using tests::run_until;

namespace {

using State = fakes::FakeStreamPeer::State;

struct Guest {
    EventLoop loop{};
    std::shared_ptr<State> peer = std::make_shared<State>();
    fakes::VirtioDriver driver{16 * MiB};
    std::shared_ptr<Net> net{};

    explicit Guest(int send_buffer = 0, std::shared_ptr<NetFilter> filter = {}) {
        peer->send_buffer = send_buffer;
        NetOptions options;
        options.retry = 5ms;
        net = *Net::create(options, loop, std::make_unique<StreamPort>(std::make_unique<fakes::FakeStreamPeer>(peer)),
                           std::move(filter));
        driver.activate(*net, net->features() & ~net_feature::guest_offloads);
        run_for(loop, 2ms);
    }
    ~Guest() { net->reset(); }
    std::uint64_t give(std::uint32_t size) { return driver[0].chain().writable(size).post().front().address; }
    void send(std::string_view bytes) {
        driver[1].chain().readable(NetHeader{}).readable(bytes).post();
        net->kick(1);
    }
    std::optional<fakes::VirtqueueDriver::Used> received() {
        std::optional<fakes::VirtqueueDriver::Used> used;
        run_until(
            loop, [&] { return (used = driver[0].used()).has_value(); }, 5s);
        return used;
    }
    std::string text(std::uint64_t buffer, std::size_t size) { return driver.ram.text(buffer + 12, size); }
};

std::string ip4(std::array<std::uint8_t, 4> from, std::array<std::uint8_t, 4> to) {
    std::string bytes(60, '\0');
    bytes[12] = 8;
    bytes[14] = 0x45;
    std::ranges::copy(from, bytes.begin() + 26);
    std::ranges::copy(to, bytes.begin() + 30);
    return bytes;
}

std::string ip6(std::array<std::uint8_t, 16> from, std::array<std::uint8_t, 16> to) {
    std::string bytes(80, '\0');
    bytes[12] = static_cast<char>(0x86);
    bytes[13] = static_cast<char>(0xdd);
    std::ranges::copy(from, bytes.begin() + 22);
    std::ranges::copy(to, bytes.begin() + 38);
    return bytes;
}

bool loopback(const std::string& bytes) {
    return names_loopback(std::as_bytes(std::span{bytes}).first(std::min(bytes.size(), StreamPort::head_size)));
}

constexpr std::array<std::uint8_t, 16> far6{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};

} // namespace

TEST_CASE("frames of a stream pass both ways, several in one piece and one in several") {
    Guest s;
    const auto first = s.give(1526);
    const auto second = s.give(1526);
    const auto third = s.give(1526);
    s.net->kick(0);
    const auto both = State::prefixed(frame(60, 'a')) + State::prefixed(frame(1514, 'b'));
    s.peer->send_bytes(both + State::prefixed(frame(70, 'c')).substr(0, 2));
    CHECK(s.received()->length == 72);
    CHECK(s.received()->length == 1526);
    CHECK(s.text(first, 60) == frame(60, 'a'));
    CHECK(s.text(second, 1514) == frame(1514, 'b'));
    CHECK(s.driver.ram.get<NetHeader>(first).buffers == 1);
    run_for(s.loop, 20ms);
    CHECK_FALSE(s.driver[0].used());
    const auto rest = State::prefixed(frame(70, 'c')).substr(2);
    for (const char byte : rest.substr(0, 20)) {
        s.peer->send_bytes({&byte, 1});
        run_for(s.loop, 1ms);
    }
    s.peer->send_bytes(rest.substr(20));
    CHECK(s.received()->length == 82);
    CHECK(s.text(third, 70) == frame(70, 'c'));
    s.send(frame(60, 'o'));
    s.send(frame(1514, 'p'));
    run_for(s.loop, 5ms);
    s.peer->receive();
    CHECK(s.peer->next() == frame(60, 'o'));
    CHECK(s.peer->next() == frame(1514, 'p'));
    CHECK(s.peer->taken.empty());
    CHECK(s.net->traffic().sent_bytes == 60 + 1514);
}

TEST_CASE("the longest frame passes both ways; no offload is offered") {
    Guest s;
    CHECK((s.net->features() & (net_feature::checksum | net_feature::offloads | net_feature::host_tso4)) == 0);
    std::string longest;
    for (std::uint32_t i = 0; i < max_frame; ++i)
        longest += static_cast<char>(i % 251);
    std::vector<std::uint64_t> buffers;
    for (int i = 0; i < 20; ++i)
        buffers.push_back(s.give(4096));
    s.net->kick(0);
    s.peer->send(longest);
    std::string got;
    for (std::size_t i = 0; got.size() < 12 + longest.size(); ++i) {
        const auto used = s.received();
        REQUIRE(used);
        got += s.driver.ram.text(buffers[i], used->length);
    }
    CHECK(got.substr(12) == longest);
    s.send(longest);
    std::optional<std::string> sent;
    CHECK(run_until(
        s.loop, [&] { return s.peer->receive(), (sent = s.peer->next()).has_value(); }, 5s));
    CHECK(sent == longest);
}

TEST_CASE("frames too short for Ethernet are dropped and counted, a length no frame has ends the connection only") {
    Guest s;
    const auto buffer = s.give(1526);
    s.net->kick(0);
    s.peer->send("");
    s.peer->send(frame(13));
    s.peer->send(frame(60, 'g'));
    CHECK(s.received()->length == 72);
    CHECK(s.text(buffer, 60) == frame(60, 'g'));
    CHECK(s.net->traffic().received_dropped == 2);
    const auto again = s.give(1526);
    s.net->kick(0);
    const tests::LogCapture log;
    for (const char* length : {"\x00\x01\x00\x13", "\xff\xff\xff\xff"}) {
        const auto connects = s.peer->connects;
        s.peer->send_bytes({length, 4});
        CHECK(run_until(s.loop, [&] { return s.peer->connects == connects + 1 && s.net->link_up(); }));
    }
    CHECK(log.text().find("it sent a length that no frame has") != std::string::npos);
    CHECK(s.net->traffic().losses == 2);
    s.peer->send(frame(60, 'n'));
    CHECK(s.received()->length == 72);
    CHECK(s.text(again, 60) == frame(60, 'n'));
}

TEST_CASE("a peer that ends in the middle of a frame takes the link down; a new one starts with a frame") {
    Guest s;
    const auto buffer = s.give(1526);
    s.net->kick(0);
    const tests::LogCapture log;
    s.peer->missing = true;
    s.peer->send_bytes(State::prefixed(frame(100, 'x')).substr(0, 50));
    s.peer->far.reset();
    CHECK(run_until(s.loop, [&] { return !s.net->link_up(); }));
    CHECK(log.text().find("the fake peer is gone (it closed the connection)") != std::string::npos);
    s.send(frame(60)); // nobody is there: dropped, and the buffer comes back
    CHECK(run_until(s.loop, [&] { return s.driver[1].used().has_value(); }));
    CHECK(s.net->traffic().sent_dropped == 1);
    s.peer->missing = false;
    CHECK(run_until(s.loop, [&] { return s.net->link_up(); }));
    s.peer->send(frame(60, 'y'));
    CHECK(s.received()->length == 72);
    CHECK(s.text(buffer, 60) == frame(60, 'y'));
}

TEST_CASE("a peer that reads slowly gets every byte in order, and the device holds one frame for it") {
    Guest s{4096};
    std::vector<std::string> frames;
    for (int i = 0; i < 40; ++i)
        frames.push_back(frame(9000, static_cast<char>('A' + i)));
    for (const auto& one : frames)
        s.send(one);
    run_for(s.loop, 20ms);
    CHECK(s.net->traffic().sent < frames.size()); // the rest waits in the guest's ring
    std::vector<std::string> got;
    CHECK(run_until(
        s.loop,
        [&] {
            s.peer->receive(1000);
            while (auto one = s.peer->next())
                got.push_back(std::move(*one));
            return got.size() == frames.size();
        },
        20s));
    CHECK(got == frames);
    CHECK(s.net->traffic().sent == frames.size());
    CHECK(s.net->traffic().sent_dropped == 0);
}

TEST_CASE("waiting for a peer that does not read takes no processor time") {
    Guest s{4096};
    for (int i = 0; i < 40; ++i)
        s.send(frame(9000));
    run_for(s.loop, 10ms);
    CHECK(tests::busy_for(s.loop, 200ms) < 50ms);
}

TEST_CASE("a frame of which a part is on its way is finished after the driver's reset") {
    Guest s{4096};
    s.send(frame(60'000, 'h'));
    run_for(s.loop, 5ms);
    CHECK(s.net->traffic().sent == 1);
    s.net->reset();
    std::optional<std::string> got;
    CHECK(run_until(
        s.loop, [&] { return s.peer->receive(), (got = s.peer->next()).has_value(); }, 5s));
    CHECK(got == frame(60'000, 'h'));
}

TEST_CASE("a peer that dies while frames wait for it loses them, and the next one gets new ones") {
    Guest s{4096};
    for (int i = 0; i < 10; ++i)
        s.send(frame(9000, 'l'));
    run_for(s.loop, 10ms);
    s.peer->far.reset();
    unsigned returned = 0;
    CHECK(run_until(s.loop, [&] {
        while (s.driver[1].used())
            ++returned;
        return s.peer->connects == 2 && returned == 10;
    }));
    s.send(frame(60, 'm'));
    std::optional<std::string> got;
    CHECK(run_until(s.loop, [&] { return s.peer->receive(), (got = s.peer->next()).has_value(); }));
    while (got && got->size() != 60) // waiting frames that the new peer still got
        s.peer->receive(), got = s.peer->next();
    CHECK(got == frame(60, 'm'));
}

TEST_CASE("a stream of frames does not keep the loop from its other work, and none is lost") {
    Guest s;
    for (int i = 0; i < 200; ++i)
        s.give(2048);
    std::string flood;
    for (int i = 0; i < 150; ++i)
        flood += State::prefixed(frame(1000, static_cast<char>(i)));
    s.peer->send_bytes(flood);
    s.net->kick(0);
    unsigned received = 0;
    CHECK(run_until(s.loop, [&] {
        while (s.driver[0].used())
            ++received;
        return received == 150;
    }));
}

TEST_CASE("a peer that comes and goes does not fill the log") {
    Guest s;
    s.give(1526);
    s.net->kick(0);
    const tests::LogCapture log;
    for (int i = 0; i < 30; ++i) {
        const auto connects = s.peer->connects;
        s.peer->far.reset();
        CHECK(run_until(s.loop, [&] { return s.peer->connects > connects && s.net->link_up(); }));
    }
    const auto text = log.text();
    CHECK(std::ranges::count(text, '\n') <= 12);
    CHECK(s.net->traffic().losses == 30);
}

TEST_CASE("frames that name the host's loopback are known") {
    CHECK(loopback(ip4({10, 0, 2, 15}, {127, 0, 0, 1})));
    CHECK(loopback(ip4({10, 0, 2, 15}, {127, 255, 255, 254})));
    CHECK(loopback(ip4({10, 0, 2, 15}, {0, 0, 0, 0})));
    CHECK(loopback(ip4({127, 0, 0, 1}, {192, 0, 2, 1})));
    CHECK_FALSE(loopback(ip4({10, 0, 2, 15}, {192, 0, 2, 1})));
    CHECK_FALSE(loopback(ip4({0, 0, 0, 0}, {255, 255, 255, 255}))); // DHCP
    CHECK(loopback(ip6(far6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})));
    CHECK(loopback(ip6(far6, {})));
    CHECK(loopback(ip6(far6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1})));
    CHECK(loopback(ip6(far6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1})));
    CHECK(loopback(ip6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, far6)));
    CHECK_FALSE(loopback(ip6({}, {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}))); // is an address free?
    CHECK_FALSE(loopback(ip6(far6, far6)));
    CHECK_FALSE(loopback(frame(60, '\0')));
    for (std::size_t size = 0; size < 54; ++size)
        CHECK_FALSE(loopback(ip6(far6, {}).substr(0, size)));
}

TEST_CASE("a frame for the host's loopback does not leave, however the guest cuts it") {
    Guest s;
    const auto bad = ip4({10, 0, 2, 15}, {127, 0, 0, 1});
    s.send(bad);
    auto chain = s.driver[1].chain().readable(NetHeader{});
    for (const char byte : bad.substr(0, 50))
        chain.readable(byte);
    chain.readable(std::string_view{bad}.substr(50)).post();
    s.net->kick(1);
    s.send(ip4({10, 0, 2, 15}, {192, 0, 2, 1}));
    run_for(s.loop, 10ms);
    s.peer->receive();
    CHECK(s.peer->next() == ip4({10, 0, 2, 15}, {192, 0, 2, 1}));
    CHECK(s.peer->taken.empty());
    CHECK(s.net->traffic().sent_dropped == 2);
    CHECK(s.net->link_up());
}

TEST_CASE("a filter works on a stream as on a tap") {
    struct Echo final : NetFilter {
        std::string kept{};
        bool wants(std::span<const std::byte> head) noexcept override { return head[0] == std::byte{'f'}; }
        void take(std::span<const std::byte> bytes) noexcept override {
            kept.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        }
        std::size_t next(std::span<std::byte> into) noexcept override {
            const auto size = kept.size();
            std::memcpy(into.data(), kept.data(), size);
            kept.clear();
            return size;
        }
    };
    Guest s{0, std::make_shared<Echo>()};
    const auto buffer = s.give(1526);
    s.send(frame(60, 'f'));
    CHECK(s.received()->length == 72);
    CHECK(s.text(buffer, 60) == frame(60, 'f'));
    run_for(s.loop, 5ms);
    CHECK_FALSE(s.peer->receive());
}

TEST_CASE("a socket's owner that is not there is an error before the start, and is waited for after it") {
    EventLoop loop;
    const auto refused = Net::create({.socket = "/nonexistent/peer.sock"}, loop);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::host_error);
    CHECK(refused.error().what.find("/nonexistent/peer.sock") != std::string::npos);
    CHECK_FALSE(refused.error().hint.empty());
    CHECK(Net::create({.socket = std::string(200, 'x')}, loop).error().code == Errc::config_value);
}

} // namespace inox::virtio_net_stream_test
