// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/flow.hpp"

#include "tests/catch.hpp"

namespace inox::virtio_vsock_flow_test {

using namespace devices::virtio;
using Event = VsockFlow::Event;
using Origin = VsockFlow::Origin;

namespace {

constexpr std::uint32_t buffer = 1000;

VsockHeader packet(VsockOp op, std::uint32_t length = 0, std::uint32_t flags = 0) {
    VsockHeader header;
    header.source_cid = 3;
    header.destination_cid = vsock_host_cid;
    header.type = vsock_stream;
    header.operation = static_cast<std::uint16_t>(op);
    header.length = length;
    header.flags = flags;
    header.buffer_size = 500;
    return header;
}

/// The operation of the next packet to the guest.
VsockOp told(VsockFlow& flow, std::uint32_t* flags = nullptr) {
    VsockHeader header;
    const VsockOp op = flow.take_control(header);
    if (flags)
        *flags = header.flags;
    return op;
}

VsockFlow open_flow() {
    VsockFlow flow{Origin::guest, buffer};
    flow.on_request(packet(VsockOp::request));
    (void)told(flow);
    return flow;
}

} // namespace

TEST_CASE("a packet must come from this guest, go to the host, and be of a known kind and length") {
    auto verdict = [](auto change, std::uint64_t payload = 0) {
        auto header = packet(VsockOp::data);
        change(header);
        return judge(header, 3, payload);
    };
    CHECK(verdict([](auto&) {}) == VsockVerdict::accept);
    CHECK(verdict([](auto& h) { h.length = 10; }, 10) == VsockVerdict::accept);
    CHECK(verdict([](auto& h) { h.length = 10; }, 11) == VsockVerdict::accept);
    CHECK(verdict([](auto& h) { h.length = 11; }, 10) == VsockVerdict::reset);
    CHECK(verdict([](auto& h) { h.length = 65536; }, 70'000) == VsockVerdict::accept);
    CHECK(verdict([](auto& h) { h.length = 65537; }, 70'000) == VsockVerdict::reset);
    CHECK(verdict([](auto& h) { h.length = 0xffffffff; }, 70'000) == VsockVerdict::reset);
    CHECK(verdict([](auto& h) { h.source_cid = 4; }) == VsockVerdict::drop);
    CHECK(verdict([](auto& h) { h.source_cid = 0x1'0000'0003; }) == VsockVerdict::drop);
    CHECK(verdict([](auto& h) { h.destination_cid = 1; }) == VsockVerdict::reset);
    CHECK(verdict([](auto& h) { h.type = 2; }) == VsockVerdict::reset);
    for (const int op : {0, 8, 0xffff})
        CHECK(verdict([&](auto& h) { h.operation = static_cast<std::uint16_t>(op); }) == VsockVerdict::reset);
    for (const int op : {1, 2, 4, 6, 7}) {
        CHECK(verdict([&](auto& h) { h.operation = static_cast<std::uint16_t>(op); }) == VsockVerdict::accept);
        CHECK(verdict([&](auto& h) { h.operation = static_cast<std::uint16_t>(op), h.length = 1; }, 1) ==
              VsockVerdict::reset);
    }
}

TEST_CASE("a reset is never answered by a reset") {
    auto header = packet(VsockOp::reset);
    CHECK(judge(header, 3, 0) == VsockVerdict::accept);
    header.type = 9;
    CHECK(judge(header, 3, 0) == VsockVerdict::drop);
    header.type = vsock_stream;
    header.destination_cid = 9;
    CHECK(judge(header, 3, 0) == VsockVerdict::drop);
}

TEST_CASE("CONNECT names one port") {
    CHECK(parse_connect("CONNECT 52") == 52);
    CHECK(parse_connect("connect 0") == 0);
    CHECK(parse_connect("  Connect\t4294967295 \r") == 4294967295);
    for (const char* bad : {"", "CONNECT", "CONNECT ", "CONNECT 4294967296", "CONNECT -1", "CONNECT 1x", "CONNECT 1 2",
                            "CONNECTED 1", "GET / HTTP/1.1", "CONNECT 0x10"})
        CHECK_FALSE(parse_connect(bad));
}

TEST_CASE("a connection of the guest begins with a response, one of the host with a request") {
    VsockFlow guest{Origin::guest, buffer};
    CHECK(told(guest) == VsockOp::response);
    CHECK(told(guest) == VsockOp::invalid);
    CHECK(guest.open());
    VsockFlow host{Origin::host, buffer};
    CHECK(told(host) == VsockOp::request);
    CHECK_FALSE(host.open());
    CHECK(host.room() == 0);
    CHECK(host.on_packet(packet(VsockOp::response)) == Event::opened);
    CHECK(host.open());
    CHECK(host.room() == 500);
}

TEST_CASE("packets out of order break a connection") {
    VsockFlow host{Origin::host, buffer};
    CHECK(host.on_packet(packet(VsockOp::response)) == Event::broken); // answers a request that was not sent yet
    CHECK(told(host) == VsockOp::request);
    for (const auto op : {VsockOp::data, VsockOp::shutdown, VsockOp::credit_update, VsockOp::request})
        CHECK(host.on_packet(packet(op)) == Event::broken);
    CHECK(host.on_packet(packet(VsockOp::reset)) == Event::ended);
    auto flow = open_flow();
    CHECK(flow.on_packet(packet(VsockOp::request)) == Event::broken);
    CHECK(flow.on_packet(packet(VsockOp::response)) == Event::broken);
}

TEST_CASE("a guest gets no more credit than the host buffers, and is told before it runs out") {
    auto flow = open_flow();
    CHECK(flow.on_packet(packet(VsockOp::data, 1000)) == Event::data);
    CHECK_FALSE(flow.has_control());
    flow.forwarded(249);
    CHECK_FALSE(flow.has_control());
    flow.forwarded(1);
    CHECK(told(flow) == VsockOp::credit_update);
    VsockHeader header;
    flow.stamp(header);
    CHECK(header.buffer_size == buffer);
    CHECK(header.forwarded == 250);
    CHECK(flow.on_packet(packet(VsockOp::data, 250)) == Event::data);
    CHECK(flow.on_packet(packet(VsockOp::data, 1)) == Event::broken);
    CHECK(open_flow().on_packet(packet(VsockOp::data, buffer + 1)) == Event::broken);
    CHECK(open_flow().on_packet(packet(VsockOp::data, 0)) == Event::data);
}

TEST_CASE("credit on request is the current one") {
    auto flow = open_flow();
    CHECK(flow.on_packet(packet(VsockOp::credit_request)) == Event::none);
    CHECK(told(flow) == VsockOp::credit_update);
    CHECK(told(flow) == VsockOp::invalid);
}

TEST_CASE("the host sends no more than the guest has room for") {
    auto flow = open_flow();
    CHECK(flow.room() == 500);
    flow.sent(500);
    CHECK(flow.room() == 0);
    auto update = packet(VsockOp::credit_update);
    update.forwarded = 200;
    CHECK(flow.on_packet(update) == Event::none);
    CHECK(flow.room() == 200);
    SECTION("a buffer that shrinks below what is in it") { update.buffer_size = 100; }
    SECTION("a guest that claims to have read more than it got") { update.forwarded = 501; }
    SECTION("no buffer at all") { update.buffer_size = 0; }
    (void)flow.on_packet(update);
    CHECK(flow.room() == 0);
}

TEST_CASE("credit is counted modulo 2^32") {
    auto flow = open_flow();
    auto update = packet(VsockOp::credit_update);
    std::uint32_t forwarded = 0;
    for (int i = 0; i < 9; ++i) { // past 4 GiB
        update.buffer_size = 0xffffffff;
        update.forwarded = forwarded;
        (void)flow.on_packet(update);
        flow.sent(0x20000000);
        forwarded += 0x20000000;
    }
    update.buffer_size = 500;
    update.forwarded = forwarded;
    (void)flow.on_packet(update);
    CHECK(flow.room() == 500);
}

TEST_CASE("credit is asked for once, not for every answer without any") {
    auto flow = open_flow();
    flow.sent(500);
    flow.ask_credit();
    CHECK(told(flow) == VsockOp::credit_request);
    flow.ask_credit();
    CHECK(told(flow) == VsockOp::invalid);
    flow.sent(0);
    flow.ask_credit();
    CHECK(told(flow) == VsockOp::credit_request);
}

TEST_CASE("each direction ends by itself, and both together close the connection") {
    SECTION("the guest's sending first") {
        auto flow = open_flow();
        CHECK(flow.on_packet(packet(VsockOp::shutdown, 0, vsock_shutdown_send)) == Event::guest_sent_all);
        CHECK(flow.on_packet(packet(VsockOp::shutdown, 0, vsock_shutdown_send)) == Event::none);
        CHECK(flow.on_packet(packet(VsockOp::data, 1)) == Event::broken);
        CHECK(flow.room() == 500);
        CHECK(flow.on_packet(packet(VsockOp::shutdown, 0, vsock_shutdown_receive)) == Event::guest_closed);
    }
    SECTION("the guest's reading first") {
        auto flow = open_flow();
        CHECK(flow.on_packet(packet(VsockOp::shutdown, 0, vsock_shutdown_receive)) == Event::guest_reads_none);
        CHECK(flow.room() == 0);
        CHECK(flow.on_packet(packet(VsockOp::data, 1)) == Event::data);
    }
    SECTION("both at once; unknown flags are nothing") {
        auto flow = open_flow();
        CHECK(flow.on_packet(packet(VsockOp::shutdown, 0, 0xfffffffc)) == Event::none);
        CHECK(flow.on_packet(packet(VsockOp::shutdown, 0, 0xffffffff)) == Event::guest_closed);
    }
}

TEST_CASE("the guest learns once what the host program shut") {
    auto flow = open_flow();
    std::uint32_t flags = 0;
    flow.host_shuts(vsock_shutdown_send);
    flow.host_shuts(vsock_shutdown_send);
    CHECK(told(flow, &flags) == VsockOp::shutdown);
    CHECK(flags == vsock_shutdown_send);
    CHECK(told(flow) == VsockOp::invalid);
    flow.host_shuts(vsock_shutdown_receive);
    CHECK(told(flow, &flags) == VsockOp::shutdown);
    CHECK(flags == (vsock_shutdown_send | vsock_shutdown_receive));
}

} // namespace inox::virtio_vsock_flow_test
