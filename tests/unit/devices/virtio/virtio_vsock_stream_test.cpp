// SPDX-License-Identifier: Apache-2.0
// Established connections: bytes both ways, credit, backpressure, and the ways they end.
#include "devices/virtio/vsock/vsock.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_vsock_stream_test {

using namespace devices::virtio;
using namespace std::chrono_literals;
using fakes::VsockGuest;
using Op = VsockOp;

namespace {

constexpr std::uint32_t both = vsock_shutdown_receive | vsock_shutdown_send;

std::string pattern(std::size_t size) {
    std::string out(size, '\0');
    std::uint32_t state = 1;
    for (char& byte : out)
        byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return out;
}

} // namespace

TEST_CASE("megabytes arrive whole in both directions") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_host();
    const std::string data = pattern(8 << 20);
    std::size_t sent = 0;
    std::string arrived;
    const auto to_guest = [&] {
        const auto more = ::send(program.fd(), data.data() + sent, data.size() - sent, MSG_DONTWAIT);
        sent += more > 0 ? static_cast<std::size_t>(more) : 0;
        while (const auto packet = guest.look())
            arrived += packet->payload;
        guest.send(Op::credit_update, ports);
        return arrived.size() >= data.size();
    };
    CHECK(guest.until(to_guest));
    CHECK(arrived == data);

    arrived.clear();
    sent = 0;
    std::uint32_t known = 0;
    const auto to_host = [&] {
        while (const auto packet = guest.look())
            known = packet->header.forwarded;
        while (sent < data.size() && static_cast<std::uint32_t>(sent) - known + 65536 <= 256 * 1024) {
            guest.send(Op::data, ports, std::string_view{data}.substr(sent, 65536));
            sent += 65536;
        }
        arrived += program.take(100'000);
        return arrived.size() >= data.size();
    };
    CHECK(guest.until(to_host));
    CHECK(arrived == data);
    CHECK(guest.device->counters().bad_requests == 0);
}

TEST_CASE("a guest that overruns its credit is cut off, and what it sent before arrives") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_guest();
    const std::string data = pattern(65536);
    int packets = 0;
    while (guest.device->traffic().open == 1 && packets < 100) {
        guest.send(Op::data, ports, data);
        ++packets;
    }
    CHECK(packets < 20); // the buffers of the socket and of the device
    std::string arrived;
    CHECK(guest.until([&] {
        arrived += program.take();
        return arrived.size() >= data.size() * static_cast<std::size_t>(packets - 1);
    }));
    CHECK(guest.until([&] { return program.ended(); }));
    CHECK(guest.device->counters().bad_requests == 1);
}

TEST_CASE("a guest without room or buffers makes the program wait, not the loop spin") {
    VsockGuest guest{{}, 128};
    guest.buffer = 10'000;
    auto [program, ports] = guest.open_from_host();
    program.send(std::string(50'000, 'p'));
    std::string arrived;
    int asked = 0;
    const auto collect = [&] {
        while (const auto packet = guest.look()) {
            arrived += packet->payload;
            asked += packet->op() == Op::credit_request;
        }
        return arrived.size() >= 10'000;
    };
    CHECK(guest.until(collect));
    CHECK(tests::busy_for(guest.loop, 50ms) < 20ms);
    collect();
    CHECK(arrived.size() == 10'000);
    CHECK(asked == 1);
    guest.read = 0; // the guest has not read a byte, and says so
    guest.send(Op::credit_update, ports);
    guest.send(Op::credit_update, ports);
    tests::run_for(guest.loop, 5ms);
    collect();
    CHECK(asked == 1);
    guest.read = 10'000;
    guest.buffer = 200'000;
    guest.send(Op::credit_update, ports);
    CHECK(guest.until([&] { return collect() && arrived.size() == 50'000; }));
}

TEST_CASE("without receive buffers everything waits, and goes on when they come") {
    VsockGuest guest{{}, 1};
    auto [program, ports] = guest.open_from_host();
    // The guest's only buffer is used, and none is added.
    guest.send(Op::credit_request, ports);
    tests::run_for(guest.loop, 2ms);
    CHECK(guest.look(false)->op() == Op::credit_update);
    program.send("waiting");
    CHECK(tests::busy_for(guest.loop, 50ms) < 20ms);
    auto second = guest.connect();
    second.send("CONNECT 9\n");
    CHECK(tests::busy_for(guest.loop, 50ms) < 20ms);
    guest.give(4);
    CHECK(guest.next().payload == "waiting");
    CHECK(guest.next().op() == Op::request);
}

TEST_CASE("a guest that takes no answers cannot pile them up") {
    VsockGuest guest{{}, 0};
    for (std::uint32_t i = 0; i < 450; ++i)
        guest.send(Op::data, {i, 1});
    CHECK(guest.device->counters().bad_requests == 0);
    tests::run_for(guest.loop, 5ms);
    CHECK(tests::busy_for(guest.loop, 50ms) < 20ms);
    unsigned resets = 0;
    guest.give(128);
    CHECK(guest.until([&] {
        while (const auto packet = guest.look())
            resets += packet->op() == Op::reset;
        return resets >= 450;
    }));
}

TEST_CASE("a program that stops sending can still read") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_guest();
    program.send("question");
    program.shut(SHUT_WR);
    CHECK(guest.next().payload == "question");
    const auto end = guest.next();
    CHECK(end.op() == Op::shutdown);
    CHECK(end.header.flags == vsock_shutdown_send);
    CHECK(tests::busy_for(guest.loop, 50ms) < 20ms);
    guest.send(Op::data, ports, "answer");
    CHECK(program.take() == "answer");
    guest.send(Op::shutdown, ports, {}, both);
    CHECK(guest.next().op() == Op::reset);
    CHECK(guest.until([&] { return program.ended(); }));
    CHECK(guest.device->traffic().open == 0);
}

TEST_CASE("a program that goes away ends the connection after its last byte") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_guest();
    program.send("last words");
    program.close();
    CHECK(guest.next().payload == "last words");
    const auto end = guest.next();
    CHECK(end.op() == Op::shutdown);
    CHECK(end.header.flags == both);
    guest.send(Op::data, ports, "too late");
    guest.send(Op::reset, ports);
    CHECK(guest.device->traffic().open == 0);
    CHECK(guest.nothing());
}

TEST_CASE("a program that stops reading is reported to the guest") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_guest();
    program.shut(SHUT_RD);
    guest.send(Op::data, ports, "unheard");
    const auto end = guest.next();
    CHECK(end.op() == Op::shutdown);
    CHECK(end.header.flags == vsock_shutdown_receive);
    program.send("still talking");
    CHECK(guest.next().payload == "still talking");
}

TEST_CASE("a guest that stops sending ends the program's stream after the last byte, and still reads") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_host();
    guest.send(Op::data, ports, "all");
    guest.send(Op::shutdown, ports, {}, vsock_shutdown_send);
    CHECK(program.take() == "all");
    CHECK(program.ended());
    program.send("reply");
    CHECK(guest.next().payload == "reply");
}

TEST_CASE("a guest that stops reading stops the program's sending") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_host();
    guest.send(Op::shutdown, ports, {}, vsock_shutdown_receive);
    CHECK_FALSE(program.send("unheard"));
    guest.send(Op::data, ports, "still talking");
    CHECK(program.take() == "still talking");
    CHECK(guest.nothing());
}

TEST_CASE("a guest that closes leaves its last bytes to a slow program, and may use the ports again") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_guest();
    const std::string data = pattern(65536);
    for (int i = 0; i < 6; ++i) // more than a socket can hold
        guest.send(Op::data, ports, data);
    guest.send(Op::shutdown, ports, {}, both);
    Op last = Op::invalid;
    CHECK(guest.until([&] {
        while (const auto packet = guest.look())
            last = packet->op();
        return last == Op::reset;
    }));
    auto again = guest.open_from_guest(ports);
    guest.send(Op::data, ports, "new");
    CHECK(again.first.take() == "new");
    std::string arrived;
    CHECK(guest.until([&] {
        arrived += program.take(10'000);
        return arrived.size() == 6 * data.size();
    }));
    CHECK(guest.until([&] { return program.ended(); }));
    CHECK(tests::busy_for(guest.loop, 50ms) < 20ms);
}

} // namespace inox::virtio_vsock_stream_test
