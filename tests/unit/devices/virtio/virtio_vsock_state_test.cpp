// SPDX-License-Identifier: Apache-2.0
// Sockets over a save and a restore: a machine that goes on keeps its connections, a restored one ends them, and those
// who listen live on.
#include "devices/virtio/vsock/vsock.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/state.hpp"

namespace inox::virtio_vsock_state_test {

using namespace devices::virtio;
using namespace std::chrono_literals;
using fakes::HostListener;
using fakes::HostStream;
using fakes::VsockGuest;
using Op = VsockOp;

namespace {

/// The guest's event buffers, as Linux gives them.
void give_events(VsockGuest& guest, unsigned count) {
    for (unsigned i = 0; i < count; ++i)
        guest.driver[2].chain().writable(4).post();
}

std::shared_ptr<Vsock> another(VsockGuest& guest) {
    return Vsock::create({.guest_cid = VsockGuest::cid, .uds_path = guest.path("2")}, guest.loop).value();
}

/// The guest's machine is saved, and goes on elsewhere at another path.
void move(VsockGuest& guest) {
    REQUIRE(guest.device->drain());
    const auto saved = tests::save(*guest.device);
    auto fresh = another(guest);
    REQUIRE(tests::replace(guest.driver, *fresh, saved));
    CHECK(tests::save(*fresh) == saved);
    guest.device = std::move(fresh);
    guest.device->resume();
    tests::turn(guest.loop);
}

HostStream connect(VsockGuest& guest) { return HostStream{connect_unix(guest.path("2"))}; }

} // namespace

TEST_CASE("a machine that goes on after a save keeps its connections, and what was sent meanwhile arrives") {
    VsockGuest guest;
    give_events(guest, 8);
    auto [stream, ports] = guest.open_from_host();
    auto [other, other_ports] = guest.open_from_guest();
    REQUIRE(guest.device->drain());
    REQUIRE(stream.send("to the guest"));
    HostStream greets = guest.connect();
    REQUIRE(greets.send("CONNECT 99\n"));
    guest.send(Op::data, other_ports, "to the host");
    CHECK(guest.nothing());
    CHECK(tests::busy_for(guest.loop, 20ms) < 10ms);
    guest.device->resume();
    CHECK(guest.next().payload == "to the guest");
    CHECK(guest.until([&] { return other.take() == "to the host"; }));
    CHECK(guest.until([&] {
        const auto packet = guest.look();
        return packet && packet->op() == Op::request && packet->header.destination_port == 99;
    }));
    CHECK_FALSE(guest.driver[2].used()); // nothing to tell
}

TEST_CASE("a restored guest is told that its connections are gone, before anything else") {
    VsockGuest guest;
    give_events(guest, 8);
    auto [stream, ports] = guest.open_from_host();
    const auto first_port = ports.host;
    move(guest);
    const auto event = guest.driver[2].used();
    REQUIRE(event);
    CHECK(event->length == 4);
    CHECK(guest.driver.notifier.used[2] >= 1);

    HostStream fresh = connect(guest);
    REQUIRE(fresh.send("CONNECT 1234\n"));
    guest.send(Op::data, ports, "of before");
    CHECK(guest.nothing()); // the guest could end the new connection along with the old ones
    give_events(guest, 1);
    guest.device->kick(2);
    std::vector<Op> seen;
    VsockPorts opened{};
    CHECK(guest.until([&] {
        if (const auto packet = guest.look()) {
            seen.push_back(packet->op());
            if (packet->op() == Op::request)
                opened = {packet->header.destination_port, packet->header.source_port};
        }
        return seen.size() == 2;
    }));
    CHECK(seen == std::vector<Op>{Op::reset, Op::request});
    CHECK(opened.guest == 1234);
    CHECK(opened.host > first_port); // not one that the guest may know
    guest.send(Op::response, opened);
    CHECK(guest.until([&] { return fresh.take().starts_with("OK "); }));
    CHECK_FALSE(guest.driver[2].used());
}

TEST_CASE("a restored guest without event buffers is not cut off, and is told once it has one") {
    VsockGuest guest;
    auto [stream, ports] = guest.open_from_host();
    move(guest);
    HostStream fresh = connect(guest);
    REQUIRE(fresh.send("CONNECT 7\n"));
    CHECK(guest.next().op() == Op::request);
    give_events(guest, 1);
    guest.device->kick(2);
    CHECK(guest.driver[2].used());
    guest.device->kick(2);
    CHECK_FALSE(guest.driver[2].used());
}

TEST_CASE("a host program that waits for the guest's answer does so after a save as well") {
    VsockGuest guest{{.request_timeout = 20ms}};
    HostStream stream = guest.connect();
    REQUIRE(stream.send("CONNECT 5\n"));
    CHECK(guest.next().op() == Op::request);
    REQUIRE(guest.device->drain());
    tests::run_for(guest.loop, 40ms);
    guest.device->resume();
    CHECK(guest.until([&] { return stream.ended(); }));
}

TEST_CASE("damage to a socket device's state does no harm") {
    const tests::LogCapture log;
    VsockGuest guest;
    give_events(guest, 8);
    auto [stream, ports] = guest.open_from_host();
    REQUIRE(guest.device->drain());
    tests::for_each_damage(tests::save(*guest.device), [&](const auto& damaged, bool must_fail) {
        auto fresh = another(guest);
        const bool taken = tests::replace(guest.driver, *fresh, damaged).has_value();
        CHECK_FALSE((taken && must_fail));
        if (taken) {
            fresh->resume();
            HostStream program = connect(guest);
            CHECK(program.send("CONNECT 7\n"));
            tests::run_for(guest.loop, 1ms);
            CHECK(fresh->drain());
        }
        fresh->reset();
        tests::turn(guest.loop);
    });
}

} // namespace inox::virtio_vsock_state_test
