// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/stack.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/mmds_guest.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::mmds_stack_test {

using namespace devices::mmds;
using namespace std::chrono_literals;
using fakes::MmdsGuest;

namespace {

constexpr std::string_view get_a = "GET /a HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";

bool starts(const std::string& text, std::string_view with) { return text.starts_with(with); }

std::vector<std::byte> arp(std::uint16_t operation, std::uint32_t target) {
    std::vector<std::byte> frame(60);
    const auto put = [&](std::size_t at, std::uint64_t value, unsigned size) {
        for (unsigned i = 0; i < size; ++i)
            frame[at + i] = static_cast<std::byte>(value >> (8 * (size - 1 - i)));
    };
    put(0, 0xffffffffffff, 6);
    put(6, 0x020000000001, 6);
    put(12, 0x0806, 2);
    put(14, 0x000108000604, 6);
    put(20, operation, 2);
    put(22, 0x020000000001, 6);
    put(28, 0xac100002, 4);
    put(38, target, 4);
    return frame;
}

} // namespace

TEST_CASE("mmds: ARP for the service's address is answered, for others it is the network's") {
    MmdsGuest guest;
    const auto request = arp(1, 0xa9fea9fe);
    CHECK(guest.stack.wants(request));
    guest.stack.take(request, guest.now);
    std::vector<std::byte> reply(Stack::frame_size);
    reply.resize(guest.stack.next(reply, guest.now));
    REQUIRE(reply.size() == 42);
    CHECK(load_le<std::uint64_t>(std::span{reply}.first(8)) == 0x0106'0100'0000'0002); // to the guest, from us
    CHECK(reply[21] == std::byte{2});
    CHECK(reply[22] == std::byte{6});
    CHECK(reply[28] == std::byte{169});
    CHECK(reply[41] == std::byte{2});
    CHECK(guest.stack.next(reply, guest.now) == 0);
    CHECK_FALSE(guest.stack.wants(arp(1, 0xa9fea9fd)));
    CHECK_FALSE(guest.stack.wants(arp(2, 0xa9fea9fe)));
    CHECK_FALSE(guest.stack.wants(std::span{request}.first(33)));
}

TEST_CASE("mmds: a connection opens, is asked, and closes from the guest's side") {
    MmdsGuest guest;
    guest.send(tcp_flag::syn, {}, 1460);
    const auto syn = guest.look();
    REQUIRE(syn);
    CHECK(syn->flags == (tcp_flag::syn | tcp_flag::ack));
    CHECK(syn->acknowledgement == guest.sequence);
    CHECK(syn->largest == 1460);
    CHECK(syn->window == TcpConnection::max_request);
    guest.expected = syn->sequence + 1;
    guest.send(tcp_flag::ack);
    CHECK_FALSE(guest.look());
    CHECK(starts(guest.ask(get_a), "HTTP/1.1 200 OK\r\n"));
    CHECK(guest.body() == "text");
    CHECK(guest.ask(get_a).ends_with("text")); // again, on the same connection
    CHECK(guest.stack.connections() == 1);
    guest.send(tcp_flag::fin | tcp_flag::ack);
    guest.run();
    CHECK(guest.closed);
    CHECK(guest.stack.connections() == 0);
    CHECK_FALSE(guest.stack.deadline());
}

TEST_CASE("mmds: Connection: close and HTTP/1.0 end the connection from the service's side") {
    for (const char* request : {"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", "GET /a HTTP/1.0\r\n\r\n"}) {
        MmdsGuest guest;
        guest.open();
        guest.ask(request);
        CHECK(guest.body() == "text");
        CHECK(guest.closed);
        CHECK(guest.stack.connections() == 1); // until the guest closes its side
        guest.send(tcp_flag::fin | tcp_flag::ack);
        guest.run();
        CHECK(guest.stack.connections() == 0);
    }
}

TEST_CASE("mmds: a request may come in pieces, several in one, and a FIN with it") {
    MmdsGuest guest;
    guest.open();
    for (const char byte : get_a)
        guest.ask({&byte, 1});
    CHECK(guest.body() == "text");
    const std::string two = std::string{get_a} + std::string{get_a};
    guest.received.clear();
    guest.send(tcp_flag::ack | tcp_flag::fin, two);
    guest.run();
    CHECK(guest.received.size() == 2 * (guest.received.find("\r\n\r\ntext") + 8));
    CHECK(guest.closed);
    CHECK(guest.stack.connections() == 0);
}

TEST_CASE("mmds: a large answer comes in segments that fit, within the guest's window") {
    MmdsGuest guest;
    guest.metadata.text["/a"] = std::string(200'000, 'x');
    guest.open(500);
    guest.window = 2000;
    guest.received.clear();
    guest.send(tcp_flag::ack, get_a);
    std::size_t burst = 0;
    while (const auto segment = guest.look()) {
        CHECK(segment->payload.size() <= 500);
        burst += segment->payload.size();
    }
    CHECK(burst == 2000);
    // Nothing of the burst arrived, so it is sent again, followed by the rest.
    guest.now += 250ms;
    guest.run();
    CHECK(guest.body() == guest.metadata.text["/a"]);
}

TEST_CASE("mmds: what gets lost is sent again, less and less often, and in the end given up") {
    MmdsGuest guest;
    guest.open();
    guest.send(tcp_flag::ack, get_a);
    const auto first = guest.look();
    REQUIRE(first);
    CHECK_FALSE(guest.look());
    unsigned copies = 0;
    std::vector<std::chrono::nanoseconds> waits;
    while (const auto deadline = guest.stack.deadline()) {
        waits.push_back(*deadline - guest.now);
        guest.now = *deadline;
        const auto segment = guest.look();
        REQUIRE(segment);
        if (segment->has(tcp_flag::rst))
            break;
        CHECK(segment->sequence == first->sequence);
        ++copies;
    }
    CHECK(copies == TcpConnection::max_tries - 1);
    CHECK(waits.front() == 200ms);
    CHECK(waits.back() == 200ms * 64);
    CHECK(guest.stack.connections() == 0);
}

TEST_CASE("mmds: a SYN that gets no answer is answered again, and given up") {
    MmdsGuest guest;
    guest.send(tcp_flag::syn);
    CHECK(guest.look()->has(tcp_flag::syn));
    guest.sequence -= 1;
    guest.send(tcp_flag::syn); // the guest did not receive the answer
    CHECK(guest.look()->has(tcp_flag::syn));
    while (const auto deadline = guest.stack.deadline()) {
        guest.now = *deadline;
        (void)guest.look();
    }
    CHECK(guest.stack.connections() == 0);
}

TEST_CASE("mmds: a closed window is probed, and opens again") {
    MmdsGuest guest;
    guest.metadata.text["/a"] = std::string(3000, 'x');
    guest.open();
    guest.window = 0;
    guest.send(tcp_flag::ack, get_a);
    const auto acknowledgement = guest.look();
    REQUIRE(acknowledgement);
    CHECK(acknowledgement->payload.empty());
    CHECK_FALSE(guest.look());
    guest.now = guest.stack.deadline().value();
    const auto probe = guest.look();
    REQUIRE(probe);
    CHECK(probe->payload.size() == 1);
    guest.window = 65535;
    guest.received.clear();
    guest.send(tcp_flag::ack); // the guest did not take the byte
    guest.now += 10s;
    guest.run();
    CHECK(guest.body().size() == 3000);
}

TEST_CASE("mmds: data that came before, comes too early or twice does not confuse") {
    MmdsGuest guest;
    guest.open();
    const auto start = guest.sequence;
    guest.send_at(start + 10, tcp_flag::ack, get_a.substr(10)); // the beginning is missing
    const auto ack = guest.look();
    REQUIRE(ack);
    CHECK(ack->acknowledgement == start);
    CHECK_FALSE(guest.look());
    guest.send_at(start, tcp_flag::ack, get_a.substr(0, 10));
    guest.send_at(start, tcp_flag::ack, get_a.substr(0, 10));
    guest.received.clear();
    guest.send_at(start + 5, tcp_flag::ack, get_a.substr(5)); // overlaps
    guest.sequence = start + static_cast<std::uint32_t>(get_a.size());
    guest.run();
    CHECK(guest.body() == "text");
}

TEST_CASE("mmds: a request that never ends is refused and its connection closed") {
    MmdsGuest guest;
    guest.open();
    guest.ask("GET /a HTTP/1.1\r\nX: " + std::string(5000, 'x'));
    CHECK(starts(guest.received, "HTTP/1.1 413 "));
    CHECK(guest.closed);
}

TEST_CASE("mmds: a reset ends the connection; one out of place does not") {
    MmdsGuest guest;
    guest.open();
    guest.send_at(guest.sequence + 1, tcp_flag::rst);
    CHECK(guest.look()->acknowledgement == guest.sequence);
    CHECK(guest.stack.connections() == 1);
    guest.send(tcp_flag::rst);
    CHECK_FALSE(guest.look());
    CHECK(guest.stack.connections() == 0);
}

TEST_CASE("mmds: segments without a connection, and other ports, are reset") {
    MmdsGuest guest;
    guest.expected = 77;
    guest.send(tcp_flag::ack, "hello");
    const auto reset = guest.look();
    REQUIRE(reset);
    CHECK(reset->flags == tcp_flag::rst);
    CHECK(reset->sequence == 77);
    const std::vector<std::byte> none;
    std::vector<std::byte> frame(100);
    frame.resize(write_segment(
        frame, MmdsGuest::self, MmdsGuest::gateway,
        {.source_port = guest.port, .destination_port = 81, .sequence = 5, .flags = tcp_flag::syn, .window = 1000}));
    guest.stack.take(frame, guest.now);
    const auto refused = guest.look();
    REQUIRE(refused);
    CHECK(refused->flags == (tcp_flag::rst | tcp_flag::ack));
    CHECK(refused->acknowledgement == 6);
    CHECK(refused->source_port == 81);
}

TEST_CASE("mmds: the guest may use a port again, and as many connections as it likes: the oldest go") {
    MmdsGuest guest;
    guest.open();
    guest.sequence += 1000; // the guest has forgotten the connection
    guest.open();
    CHECK_FALSE(guest.reset);
    CHECK(guest.ask(get_a).ends_with("text"));
    CHECK(guest.stack.connections() == 1);
    for (std::uint16_t port = 50000; port < 50100; ++port) {
        guest.port = port;
        guest.now += 1ms;
        guest.open();
        REQUIRE(guest.stack.connections() <= Stack::max_connections);
    }
    CHECK(guest.ask(get_a).ends_with("text"));
    guest.port = 50000;
    guest.ask(get_a);
    CHECK(guest.reset);
}

TEST_CASE("mmds: an answer that the guest gives to what was never sent changes nothing") {
    MmdsGuest guest;
    guest.open();
    guest.expected += 5000;
    guest.send(tcp_flag::ack);
    CHECK(guest.look().has_value()); // the answer corrects the guest
    guest.expected -= 5000;
    CHECK(guest.ask(get_a).ends_with("text"));
}

TEST_CASE("mmds: other protocols, fragments and damaged frames to the address go nowhere") {
    MmdsGuest guest;
    std::vector<std::byte> frame(100);
    frame.resize(write_segment(
        frame, MmdsGuest::self, MmdsGuest::gateway,
        {.source_port = 1, .destination_port = 80, .sequence = 5, .flags = tcp_flag::syn, .window = 1000}));
    const auto dropped = [&](std::size_t at, std::uint8_t value) {
        auto copy = frame;
        copy[at] = std::byte{value};
        CHECK(guest.stack.wants(copy));
        guest.stack.take(copy, guest.now);
        CHECK_FALSE(guest.look());
    };
    dropped(14, 0x65); // version 6
    dropped(14, 0x44); // short header
    dropped(14, 0x4f); // options beyond the end
    dropped(16, 0x40); // longer than the frame
    dropped(17, 0x20); // too short for TCP
    dropped(20, 0x20); // more fragments
    dropped(21, 0x01); // a later fragment
    dropped(23, 17);   // UDP
    dropped(46, 0x40); // short TCP header
    dropped(46, 0xf0); // TCP options beyond the end
    for (std::size_t size = 34; size < frame.size(); ++size) {
        guest.stack.take(std::span{frame}.first(size), guest.now);
        CHECK_FALSE(guest.look());
    }
    CHECK(guest.stack.connections() == 0);
}

TEST_CASE("mmds: what it sends has right checksums") {
    MmdsGuest guest;
    guest.send(tcp_flag::syn);
    std::vector<std::byte> frame(Stack::frame_size);
    frame.resize(guest.stack.next(frame, guest.now));
    const auto sum = [](std::span<const std::byte> bytes, std::uint32_t total = 0) {
        for (std::size_t i = 0; i + 1 < bytes.size(); i += 2)
            total += std::to_integer<std::uint32_t>(bytes[i]) << 8 | std::to_integer<std::uint32_t>(bytes[i + 1]);
        return (total & 0xffff) + (total >> 16);
    };
    const auto all = std::span<const std::byte>{frame};
    CHECK(sum(all.subspan(14, 20)) == 0xffff);
    const auto length = static_cast<std::uint32_t>(frame.size() - 34);
    CHECK(sum(all.subspan(34), sum(all.subspan(26, 8), 6 + length)) == 0xffff);
}

} // namespace inox::mmds_stack_test
