// SPDX-License-Identifier: Apache-2.0
// A network card comes to rest, is saved and restored, and goes on with another port.
#include "devices/virtio/net/net.hpp"

#include "devices/virtio/net/uapi.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/net_guest.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"
#include "tests/support/state.hpp"

namespace inox::virtio_net_state_test {

using namespace inox::devices::virtio;
using namespace inox::fakes;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t agreed = offers | net_feature::guest_checksum | net_feature::guest_tso4 |
                                 net_feature::guest_offloads | net_feature::queue_pairs | net_feature::mtu |
                                 net_feature::announce;

/// The same card on another host.
struct Other {
    explicit Other(NetGuest& of) : guest{of} {
        net = Net::create({.id = "net0", .mtu = 9000, .queue_pairs = 2}, guest.loop, std::make_unique<FakePort>(port))
                  .value();
    }
    ~Other() { net->reset(); }
    NetGuest& guest;
    std::shared_ptr<FakePort::State> port = std::make_shared<FakePort::State>();
    std::shared_ptr<Net> net;
};

} // namespace

TEST_CASE("a restored card receives where it was, and its port has the driver's offloads and queues") {
    NetGuest s{{.id = "net0", .mtu = 9000, .queue_pairs = 2}};
    s.start(agreed);
    CHECK(s.command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, Le16{2}, 4) == VIRTIO_NET_OK);
    for (int i = 0; i < 4; ++i)
        (void)s.give(2048);
    s.port->send(frame(60));
    REQUIRE(s.received());
    REQUIRE(s.net->drain());
    s.port->send(frame(100)); // for the old host
    tests::run_for(s.loop, 5ms);
    CHECK_FALSE(s.driver[0].used());
    CHECK(tests::busy_for(s.loop, 20ms) < 10ms);

    const auto saved = tests::save(*s.net);
    Other other{s};
    REQUIRE(tests::replace(s.driver, *other.net, saved));
    CHECK(tests::save(*other.net) == saved);
    CHECK(other.port->offloads == 0);
    const auto told = s.driver.notifier.config.load();
    other.net->resume();
    tests::turn(s.loop);
    CHECK(other.port->offloads == (net_feature::guest_checksum | net_feature::guest_tso4));
    CHECK(other.port->active == 2);
    CHECK(s.driver.notifier.config == told + 1);
    other.port->send(frame(70));
    const auto used = s.received();
    REQUIRE(used);
    CHECK(used->id == 1);
    CHECK(used->length == 82);
    const auto status = [&] {
        std::array<std::byte, 2> bytes{};
        other.net->read_config(6, bytes);
        return load_le<std::uint16_t>(bytes);
    };
    CHECK(status() == (VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE));
    const auto asked = s.driver[4].chain().readable(std::string{"\3\0", 2}).writable(1).post();
    other.net->kick(4);
    CHECK(s.driver.ram.get<std::uint8_t>(asked.back().address) == VIRTIO_NET_OK);
    CHECK(status() == VIRTIO_NET_S_LINK_UP);
    s.driver[3].chain().readable(NetHeader{}).readable(frame(60)).post();
    other.net->kick(3);
    CHECK(other.port->take(1));
}

TEST_CASE("a card whose save was given up goes on, and loses no buffer") {
    NetGuest s;
    s.start(offers);
    for (int i = 0; i < 3; ++i)
        (void)s.give(2048);
    s.net->kick(0);
    s.port->send(frame(60));
    REQUIRE(s.received());
    REQUIRE(s.net->drain());
    REQUIRE(s.net->drain());
    s.port->send(frame(61));
    s.send(frame(80));
    s.net->resume();
    const auto used = s.received();
    REQUIRE(used);
    CHECK(used->length == 73);
    CHECK(s.port->take());
}

TEST_CASE("a card that comes to rest before it began to work begins when it resumes") {
    NetGuest s;
    s.driver.activate(*s.net, offers);
    REQUIRE(s.net->drain());
    tests::turn(s.loop); // its start finds it at rest
    (void)s.give(2048);
    s.port->send(frame(60));
    s.net->resume();
    CHECK(s.received());
}

TEST_CASE("a port that went and came back while its card was at rest is used again") {
    const tests::LogCapture log;
    NetGuest s;
    s.start(offers | net_feature::guest_checksum | net_feature::guest_tso4);
    (void)s.give(2048);
    s.net->kick(0);
    s.port->vanish();
    s.port->missing = true;
    CHECK(tests::run_until(s.loop, [&] { return !s.net->link_up(); }));
    REQUIRE(s.net->drain());
    s.port->missing = false;
    tests::run_for(s.loop, 30ms);
    s.net->resume();
    CHECK(tests::run_until(s.loop, [&] { return s.net->link_up(); }));
    CHECK(s.port->offloads == (net_feature::guest_checksum | net_feature::guest_tso4));
    s.port->send(frame(60));
    CHECK(s.received());
}

TEST_CASE("damage to a card's state does no harm") {
    const tests::LogCapture log;
    NetGuest s{{.id = "net0", .mtu = 9000, .queue_pairs = 2}};
    s.start(agreed);
    for (int i = 0; i < 4; ++i)
        (void)s.give(2048);
    s.send(frame(60));
    REQUIRE(s.net->drain());
    const auto saved = tests::save(*s.net);
    tests::for_each_damage(saved, [&](const auto& damaged, bool must_fail) {
        Other other{s};
        const bool taken = tests::replace(s.driver, *other.net, damaged).has_value();
        CHECK_FALSE((taken && must_fail));
        if (!taken)
            return;
        other.net->resume();
        other.port->send(frame(60));
        tests::run_for(s.loop, 1ms);
        CHECK(other.net->drain());
    });
    auto wrong = saved;
    wrong["offloads"] = net_feature::guest_ufo; // was not agreed
    Other other{s};
    CHECK_FALSE(tests::replace(s.driver, *other.net, wrong));
}

} // namespace inox::virtio_net_state_test
