// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/net.hpp"

#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/net_guest.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_net_test {

using namespace inox::devices::virtio;
using namespace std::chrono_literals;
using namespace inox::fakes;

TEST_CASE("the configuration shows MAC, link, pairs and MTU, whatever part is read") {
    NetGuest s{{.mac = *MacAddress::parse("02:00:00:00:00:07"), .mtu = 9000, .queue_pairs = 4}};
    std::array<std::byte, 16> config{};
    s.net->read_config(0, config);
    CHECK(config[0] == std::byte{2});
    CHECK(config[5] == std::byte{7});
    CHECK(load_le<std::uint16_t>(std::span{config}.subspan(6)) == 1);
    CHECK(load_le<std::uint16_t>(std::span{config}.subspan(8)) == 4);
    CHECK(load_le<std::uint16_t>(std::span{config}.subspan(10)) == 9000);
    CHECK(config[12] == std::byte{0});
    std::array<std::byte, 4> end{};
    s.net->read_config(10, end);
    CHECK(load_le<std::uint32_t>(end) == 9000);
    s.net->read_config(~std::uint64_t{0}, end);
    CHECK(load_le<std::uint32_t>(end) == 0);
}

TEST_CASE("options outside their bounds are refused by name") {
    EventLoop loop;
    auto code = [&](const NetOptions& options) {
        return Net::create(options, loop, std::make_unique<FakePort>(std::make_shared<FakePort::State>())).error().code;
    };
    CHECK(code({.mtu = 67}) == Errc::config_value);
    CHECK(code({.mtu = 65536}) == Errc::config_value);
    CHECK(code({.queue_pairs = 0}) == Errc::config_value);
    CHECK(code({.queue_pairs = 17}) == Errc::config_value);
    for (const char* tap : {"", "sixteen-letters-", "a/b", "tap%d", "a b"})
        CHECK(Net::create({.tap = tap}, loop).error().code == Errc::config_value);
}

TEST_CASE("a frame sent reaches the port with a checked header, and its buffers come back") {
    NetGuest s;
    s.start(offers);
    s.send(frame(60), {.flags = 0xff, .checksum_start = 34, .checksum_offset = 16, .buffers = 7});
    const auto seen = s.port->take();
    REQUIRE(seen);
    CHECK(seen->size() == 72);
    CHECK((*seen)[0] == 1); // of the flags only NEEDS_CSUM is left
    CHECK((*seen)[10] == 0);
    CHECK(s.driver[1].used()->length == 0);
    CHECK(s.net->traffic().sent == 1);
    CHECK(s.net->traffic().sent_bytes == 60);
}

TEST_CASE("a header may be split over descriptors") {
    NetGuest s;
    s.start(offers);
    s.driver[1].chain().readable(std::string(5, '\0')).readable(std::string(7, '\0') + frame(20)).post(true);
    s.net->kick(1);
    CHECK(s.port->take()->size() == 32);
}

TEST_CASE("a frame that breaks the rules is dropped and counted, and the next one goes out") {
    NetGuest s;
    s.start(offers);
    s.driver[1].chain().readable("short").post();
    s.driver[1].chain().readable(NetHeader{}).post();
    s.driver[1].chain().readable(NetHeader{}).readable(frame(13)).post();
    s.driver[1].chain().writable(100).post();
    s.driver[1].chain().readable(NetHeader{}).readable(frame(60)).writable(1).post();
    s.driver[1].chain().readable(NetHeader{}).raw({0x200000, max_frame + 1, false}).post();
    s.driver[1].chain().readable(NetHeader{.segmentation = 1}).readable(frame(60)).post();
    s.net->kick(1);
    CHECK_FALSE(s.port->take());
    for (int i = 0; i < 7; ++i)
        CHECK(s.driver[1].used()->length == 0);
    CHECK(s.net->counters().bad_requests == 7);
    CHECK(s.net->traffic().sent_dropped == 7);
    CHECK(s.driver.notifier.broken == 0);
    s.send(frame(60));
    CHECK(s.port->take());
}

TEST_CASE("one kick sends all that waits, with one interrupt") {
    // A turn ends after a millisecond, and a busy machine may take that from it: one of these has its time.
    unsigned sent = 0;
    for (int tries = 0; tries < 50 && sent != 40; ++tries) {
        NetGuest s;
        s.start(offers);
        for (int i = 0; i < 40; ++i)
            s.driver[1].chain().readable(NetHeader{}).readable(frame(60)).post();
        s.net->kick(1);
        for (sent = 0; s.port->take();)
            ++sent;
        CHECK(s.driver.notifier.used[1] == 1);
        CHECK((s.driver[1].used_flags() == 0) == (sent == 40)); // notifications are enabled again
    }
    CHECK(sent == 40);
}

TEST_CASE("a full ring is sent in turns, without another kick") {
    NetGuest s;
    s.start(offers, {0, 1024, 0});
    for (int i = 0; i < 500; ++i)
        s.driver[1].chain().readable(NetHeader{}).readable(frame(14)).post();
    s.net->kick(1);
    CHECK(s.net->traffic().sent > 0);
    CHECK(s.net->traffic().sent <= 128); // fewer where they take longer than a turn may
    unsigned seen = 0;
    CHECK(tests::run_until(s.loop, [&] {
        while (s.port->take())
            ++seen;
        return seen == 500;
    }));
}

TEST_CASE("a port that is full makes frames wait, none is lost") {
    NetGuest s;
    s.start(offers, {0, 1024, 0});
    for (int i = 0; i < 500; ++i)
        s.driver[1].chain().readable(NetHeader{}).readable(frame(10'000)).post();
    s.net->kick(1);
    tests::run_for(s.loop, 5ms);
    CHECK(s.net->traffic().sent < 500);
    CHECK(tests::busy_for(s.loop, 50ms) < 20ms);
    unsigned seen = 0;
    CHECK(tests::run_until(s.loop, [&] {
        while (s.port->take())
            ++seen;
        return seen == 500;
    }));
    CHECK(s.net->traffic().sent_dropped == 0);
}

TEST_CASE("the offloads of the port are those the driver agreed to, and change by command") {
    NetGuest s;
    s.start(offers | net_feature::guest_offloads | net_feature::guest_checksum | net_feature::guest_tso4);
    CHECK(s.port->offloads == (net_feature::guest_checksum | net_feature::guest_tso4));
    CHECK(s.command(5, 0, std::uint64_t{net_feature::guest_checksum}, 2) == 0);
    CHECK(s.port->offloads == net_feature::guest_checksum);
    CHECK(s.command(5, 0, std::uint64_t{0}, 2) == 0);
    CHECK(s.port->offloads == 0);
    CHECK(s.command(5, 0, std::uint64_t{net_feature::guest_tso6}, 2) == 1);
    CHECK(s.command(5, 0, std::uint32_t{0}, 2) == 1);
    s.net->reset();
    s.start(offers | net_feature::guest_tso4);
    CHECK(s.port->offloads == 0); // no segments without checksums
    CHECK(s.command(5, 0, std::uint64_t{0}, 2) == 1);
}

TEST_CASE("control commands that are unknown, short or without room for the answer do no harm") {
    NetGuest s;
    s.start(offers);
    CHECK(s.command(0, 0, std::uint8_t{1}, 2) == 1);
    CHECK(s.command(255, 255, std::uint8_t{1}, 2) == 1);
    CHECK(s.command(4, 0, std::uint16_t{1}, 2) == 1); // queue pairs were not negotiated
    s.driver[2].chain().readable("x").writable(1).post();
    s.driver[2].chain().readable("xyz").post();
    s.driver[2].chain().writable(1).post();
    s.net->kick(2);
    CHECK(s.driver[2].used()->length == 1);
    CHECK(s.driver[2].used()->length == 0);
    CHECK(s.driver[2].used()->length == 1);
    CHECK(s.driver.notifier.broken == 0);
}

TEST_CASE("queue pairs beyond the first work once the driver asks for them") {
    NetGuest s{{.queue_pairs = 3}};
    CHECK(s.net->queue_sizes().size() == 7);
    s.start(offers | net_feature::queue_pairs);
    CHECK(s.port->active == 1);
    s.send(frame(60), {}, 2);
    CHECK_FALSE(s.port->take(2));
    CHECK(s.command(4, 0, std::uint16_t{0}, 6) == 1);
    CHECK(s.command(4, 0, std::uint16_t{4}, 6) == 1);
    CHECK(s.command(4, 0, std::uint16_t{3}, 6) == 0);
    CHECK(s.port->active == 3);
    CHECK(tests::run_until(s.loop, [&] { return s.port->take(2).has_value(); })); // a frame that was sent too early
    s.give(1526, 1);
    s.net->kick(2);
    s.port->send(frame(99), {}, 1);
    CHECK(s.received(1)->length == 111);
    CHECK(s.driver.notifier.used[2] == 1);
    CHECK(s.command(4, 0, std::uint16_t{1}, 6) == 0);
    CHECK(s.port->active == 1);
}

TEST_CASE("what the port knows already is not told again, and a guest that changes its mind for ever waits") {
    NetGuest s{{.queue_pairs = 4}};
    s.start(offers | net_feature::queue_pairs | net_feature::guest_offloads | net_feature::guest_checksum |
            net_feature::guest_tso4);
    constexpr unsigned control = 8;
    const auto offload = [&](std::uint64_t bits) { return s.command(5, 0, bits, control); };
    const auto pairs = [&](std::uint16_t number) { return s.command(4, 0, number, control); };
    REQUIRE(offload(net_feature::guest_checksum) == 0);
    REQUIRE(pairs(2) == 0);
    unsigned before = s.port->calls;
    for (int i = 0; i < 200; ++i) {
        s.driver.ram.next = 0x200000;
        REQUIRE(offload(net_feature::guest_checksum) == 0);
        REQUIRE(pairs(2) == 0);
    }
    CHECK(s.port->calls == before);

    // Turns the offloads on and off again, as often as the ring has room, over and over.
    struct [[gnu::packed]] Command {
        std::uint8_t kind{5}, number{0};
        std::uint64_t bits;
    };
    before = s.port->calls;
    unsigned posted = 0, answered = 0;
    const auto start = std::chrono::steady_clock::now();
    CHECK(tests::run_until(s.loop, [&] {
        while (s.driver[control].used())
            ++answered;
        for (; posted < answered + 16; ++posted) {
            s.driver.ram.next = 0x200000 + 64 * (posted % 64);
            const std::uint64_t bits = posted % 2 == 0 ? 0 : net_feature::guest_checksum | net_feature::guest_tso4;
            s.driver[control].chain().readable(Command{.bits = bits}).writable(1).post();
        }
        s.net->kick(control);
        return answered >= 70;
    }));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    CHECK(s.port->calls - before <= 64 + 16 * took.count() + 1);
}

TEST_CASE("drivers that come and go do not make the port's calls or the loop's list grow") {
    NetGuest s;
    s.start(offers | net_feature::guest_checksum);
    const auto calls = s.port->calls;
    const auto kicks = s.net->counters().kicks.load();
    for (int i = 0; i < 300; ++i) { // the loop does not run meanwhile
        s.net->reset();
        s.driver.activate(*s.net, offers | net_feature::guest_checksum);
    }
    tests::run_for(s.loop, 5ms);
    CHECK(s.port->calls == calls);
    CHECK(s.net->counters().kicks - kicks <= 6);
    s.send(frame(60));
    CHECK(s.port->take());
}

TEST_CASE("a tap that disappears takes the link down, and up when it is back") {
    NetGuest s;
    s.start(offers);
    s.give(1526);
    s.net->kick(0);
    s.port->vanish();
    REQUIRE(tests::run_until(s.loop, [&] { return s.driver.notifier.config == 1; }));
    CHECK_FALSE(s.net->link_up());
    std::array<std::byte, 2> status{std::byte{9}};
    s.net->read_config(6, status);
    CHECK(status[0] == std::byte{0});
    s.send(frame(60)); // the frame is dropped, but its buffer comes back
    CHECK(s.driver[1].used());
    CHECK(s.net->traffic().sent_dropped == 1);
    tests::run_for(s.loop, 30ms);
    CHECK(s.net->traffic().losses == 1);
    s.port->missing = false;
    REQUIRE(tests::run_until(s.loop, [&] { return s.driver.notifier.config == 2; }));
    CHECK(s.net->link_up());
    s.send(frame(60));
    CHECK(s.port->take());
    s.port->send(frame(60));
    CHECK(s.received());
}

TEST_CASE("a tap that comes back after a reset serves the next driver") {
    NetGuest s;
    s.start(offers);
    s.give(1526);
    s.net->kick(0);
    s.port->vanish();
    REQUIRE(tests::run_until(s.loop, [&] { return !s.net->link_up(); }));
    s.net->reset();
    tests::run_for(s.loop, 20ms);
    s.start(offers);
    s.port->missing = false;
    REQUIRE(tests::run_until(s.loop, [&] { return s.net->link_up(); }));
    s.give(1526);
    s.net->kick(0);
    s.port->send(frame(60));
    CHECK(s.received());
}

TEST_CASE("rate limits hold back both directions and keep every frame") {
    using Clock = std::chrono::steady_clock;
    const devices::BucketLimits limit{.size = 10'000, .one_time_burst = 0, .refill_time = 100ms};
    NetOptions options;
    (GENERATE(true, false) ? options.send_limits : options.receive_limits).bandwidth = limit;
    const bool sending = options.send_limits.bandwidth.has_value();
    NetGuest s{options};
    s.start(offers);
    const auto begin = Clock::now();
    unsigned seen = 0;
    for (int i = 0; i < 30; ++i) { // the bucket holds a third of this
        if (sending) {
            s.send(frame(1000));
        } else {
            s.give(1526);
            s.net->kick(0);
            s.port->send(frame(1000));
        }
    }
    CHECK(tests::run_until(s.loop, [&] {
        while (sending ? s.port->take().has_value() : s.driver[0].used().has_value())
            ++seen;
        return seen == 30;
    }));
    CHECK(Clock::now() - begin >= 180ms);
    CHECK(Clock::now() - begin < 8s); // the machine may be busy
    CHECK(s.net->traffic().sent_dropped + s.net->traffic().received_dropped == 0);
}

TEST_CASE("new rate limits reach frames that wait for the old ones") {
    NetOptions options;
    options.send_limits.ops = devices::BucketLimits{.size = 1, .one_time_burst = 0, .refill_time = 1h};
    NetGuest s{options};
    s.start(offers);
    s.send(frame(60));
    s.send(frame(60));
    CHECK(s.port->take());
    tests::run_for(s.loop, 5ms);
    CHECK_FALSE(s.port->take());
    s.net->update_limits({}, {.ops = devices::BucketLimits{}});
    CHECK(tests::run_until(
        s.loop, [&] { return s.port->take().has_value(); }, 1s));
}

TEST_CASE("a filter takes frames from the guest and answers it, with and without a tap") {
    struct Echo final : NetFilter {
        bool wants(std::span<const std::byte> head) noexcept override { return head[0] == std::byte{'f'}; }
        void take(std::span<const std::byte> frame) noexcept override { answer.assign(frame.begin(), frame.end()); }
        std::size_t next(std::span<std::byte> frame) noexcept override {
            std::ranges::copy(answer, frame.begin());
            return std::exchange(answer, {}).size();
        }
        std::vector<std::byte> answer{};
    };
    NetGuest s{{}, std::make_shared<Echo>()};
    s.start(offers);
    s.give(50);
    s.give(50);
    s.give(50);
    s.net->kick(0);
    if (GENERATE(false, true)) {
        s.port->vanish();
        REQUIRE(tests::run_until(s.loop, [&] { return !s.net->link_up(); }));
    }
    s.send(frame(100, 'f'));
    CHECK_FALSE(s.port->take());
    CHECK(s.received()->length == 50);
    CHECK(s.received()->length == 50);
    CHECK(s.received()->length == 12);
    s.send(frame(60, 'g'));
    CHECK(s.port->take().has_value() == s.net->link_up());
}

TEST_CASE("drivers come and go on another thread while frames flow") {
    NetGuest s;
    std::thread runner{[&] { s.loop.run(); }};
    // At least 50 rounds; on a busy machine more, until a round was long enough for frames in both directions.
    const auto& traffic = s.net->traffic();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
    const auto flowed = [&] {
        return (traffic.sent > 0 && traffic.received > 0) || std::chrono::steady_clock::now() > deadline;
    };
    for (int round = 0; round < 50 || !flowed(); ++round) {
        s.driver.prepare(*s.net, offers);
        for (int i = 0; i < 20; ++i) {
            s.give(1526);
            s.driver[1].chain().readable(NetHeader{}).readable(frame(60)).post();
        }
        s.driver.start(*s.net);
        for (int i = 0; i < 20; ++i)
            s.port->send(frame(60));
        if (round % 2 == 0)
            s.loop.call([] {});
        s.net->reset();
        while (s.port->take()) {
        }
    }
    s.loop.stop();
    runner.join();
    CHECK(traffic.sent > 0);
    CHECK(traffic.received > 0);
}

} // namespace inox::virtio_net_test
