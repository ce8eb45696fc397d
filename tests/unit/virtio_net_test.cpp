// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net.hpp"

#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/net_port.hpp"
#include "tests/fakes/run_loop.hpp"
#include "tests/fakes/virtio_driver.hpp"

using namespace devices::virtio;
using namespace std::chrono_literals;
using fakes::FakePort;
using fakes::run_for;
using fakes::run_until;

namespace {

constexpr std::uint64_t offers = net_feature::checksum | net_feature::host_tso4 | net_feature::host_tso6 |
                                 net_feature::mergeable | net_feature::status | net_feature::control;

std::string frame(std::size_t size, char fill = 'x') { return std::string(size, fill); }

struct Setup {
    vmm::EventLoop loop{};
    std::shared_ptr<FakePort::State> port = std::make_shared<FakePort::State>();
    fakes::VirtioDriver driver{};
    std::shared_ptr<Net> net{};

    explicit Setup(NetOptions options = {}) {
        options.retry = 5ms;
        net = *Net::create(options, loop, std::make_unique<FakePort>(port));
    }
    ~Setup() { net->reset(); }
    void start(std::uint64_t features, std::vector<std::uint16_t> sizes = {}) {
        driver.activate(*net, features, std::move(sizes));
        run_for(loop, 2ms);
    }
    /// A receive buffer; returns its address.
    std::uint64_t give(std::uint32_t size, unsigned pair = 0) {
        return driver[2 * pair].chain().writable(size).post().front().address;
    }
    bool nothing_received() {
        run_for(loop, 20ms);
        return !driver[0].used();
    }
    std::optional<fakes::VirtqueueDriver::Used> received(unsigned pair = 0) {
        std::optional<fakes::VirtqueueDriver::Used> used;
        run_until(
            loop, [&] { return (used = driver[2 * pair].used()).has_value(); }, 5s);
        return used;
    }
    void send(std::string_view bytes, NetHeader header = {}, unsigned pair = 0) {
        driver[2 * pair + 1].chain().readable(header).readable(bytes).post();
        net->kick(2 * pair + 1);
    }
    std::uint8_t command(std::uint8_t kind, std::uint8_t number, auto data, unsigned queue) {
        struct Head {
            std::uint8_t kind, number;
        };
        const auto pieces = driver[queue].chain().readable(Head{kind, number}).readable(data).writable(1).post();
        net->kick(queue);
        CHECK(driver[queue].used()->length == 1);
        return driver.ram.get<std::uint8_t>(pieces.back().address);
    }
    NetHeader header_at(std::uint64_t address) { return driver.ram.get<NetHeader>(address); }
};

} // namespace

TEST_CASE("the configuration shows MAC, link, pairs and MTU, whatever part is read") {
    Setup s{{.mac = *MacAddress::parse("02:00:00:00:00:07"), .mtu = 9000, .queue_pairs = 4}};
    std::array<std::byte, 16> config{};
    s.net->read_config(0, config);
    CHECK(config[0] == std::byte{2});
    CHECK(config[5] == std::byte{7});
    CHECK(vmm::load_le<std::uint16_t>(std::span{config}.subspan(6)) == 1);
    CHECK(vmm::load_le<std::uint16_t>(std::span{config}.subspan(8)) == 4);
    CHECK(vmm::load_le<std::uint16_t>(std::span{config}.subspan(10)) == 9000);
    CHECK(config[12] == std::byte{0});
    std::array<std::byte, 4> end{};
    s.net->read_config(10, end);
    CHECK(vmm::load_le<std::uint32_t>(end) == 9000);
    s.net->read_config(~std::uint64_t{0}, end);
    CHECK(vmm::load_le<std::uint32_t>(end) == 0);
}

TEST_CASE("options outside their bounds are refused by name") {
    vmm::EventLoop loop;
    auto code = [&](const NetOptions& options) {
        return Net::create(options, loop, std::make_unique<FakePort>(std::make_shared<FakePort::State>())).error().code;
    };
    CHECK(code({.mtu = 67}) == vmm::Errc::config_value);
    CHECK(code({.mtu = 65536}) == vmm::Errc::config_value);
    CHECK(code({.queue_pairs = 0}) == vmm::Errc::config_value);
    CHECK(code({.queue_pairs = 17}) == vmm::Errc::config_value);
    for (const char* tap : {"", "sixteen-letters-", "a/b", "tap%d", "a b"})
        CHECK(Net::create({.tap = tap}, loop).error().code == vmm::Errc::config_value);
}

TEST_CASE("a frame sent reaches the port with a checked header, and its buffers come back") {
    Setup s;
    s.start(offers);
    s.send(frame(60), {.flags = 0xff, .checksum_start = 34, .checksum_offset = 16, .buffers = 7});
    const auto seen = s.port->take();
    REQUIRE(seen);
    CHECK(seen->size() == 72);
    CHECK((*seen)[0] == 1); // NEEDS_CSUM alone is left of the flags
    CHECK((*seen)[10] == 0);
    CHECK(s.driver[1].used()->length == 0);
    CHECK(s.net->traffic().sent == 1);
    CHECK(s.net->traffic().sent_bytes == 60);
}

TEST_CASE("a header may be split over descriptors") {
    Setup s;
    s.start(offers);
    s.driver[1].chain().readable(std::string(5, '\0')).readable(std::string(7, '\0') + frame(20)).post(true);
    s.net->kick(1);
    CHECK(s.port->take()->size() == 32);
}

TEST_CASE("a frame that breaks the rules is dropped and counted, and the next one goes out") {
    Setup s;
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
    Setup s;
    s.start(offers);
    for (int i = 0; i < 40; ++i)
        s.driver[1].chain().readable(NetHeader{}).readable(frame(60)).post();
    s.net->kick(1);
    for (int i = 0; i < 40; ++i)
        CHECK(s.port->take());
    CHECK(s.driver.notifier.used[1] == 1);
    CHECK(s.driver[1].used_flags() == 0); // notifications are wanted again
}

TEST_CASE("a full ring is sent in turns, without another kick") {
    Setup s;
    s.start(offers, {0, 1024, 0});
    for (int i = 0; i < 500; ++i)
        s.driver[1].chain().readable(NetHeader{}).readable(frame(14)).post();
    s.net->kick(1);
    CHECK(s.net->traffic().sent == 128);
    unsigned seen = 0;
    CHECK(run_until(s.loop, [&] {
        while (s.port->take())
            ++seen;
        return seen == 500;
    }));
}

TEST_CASE("a port that is full makes frames wait, none is lost") {
    Setup s;
    s.start(offers, {0, 1024, 0});
    for (int i = 0; i < 500; ++i)
        s.driver[1].chain().readable(NetHeader{}).readable(frame(10'000)).post();
    s.net->kick(1);
    run_for(s.loop, 5ms);
    CHECK(s.net->traffic().sent < 500);
    CHECK(fakes::busy_for(s.loop, 50ms) < 20ms);
    unsigned seen = 0;
    CHECK(run_until(s.loop, [&] {
        while (s.port->take())
            ++seen;
        return seen == 500;
    }));
    CHECK(s.net->traffic().sent_dropped == 0);
}

TEST_CASE("a frame received lands behind its header in the driver's buffer") {
    Setup s;
    s.start(offers | net_feature::guest_checksum);
    const auto buffer = s.give(1526);
    s.net->kick(0);
    s.port->send(frame(100, 'r'), {.flags = 1, .checksum_start = 34, .checksum_offset = 16});
    const auto used = s.received();
    REQUIRE(used);
    CHECK(used->length == 112);
    CHECK(s.header_at(buffer).flags == 1);
    CHECK(s.header_at(buffer).buffers == 1);
    CHECK(s.driver.ram.text(buffer + 12, 100) == frame(100, 'r'));
    CHECK(s.driver.notifier.used[0] == 1);
}

TEST_CASE("a large frame spans as many buffers as it needs and uses no more") {
    Setup s;
    s.start(offers | net_feature::offloads);
    std::vector<std::uint64_t> buffers;
    for (int i = 0; i < 64; ++i)
        buffers.push_back(s.give(1536));
    s.net->kick(0);
    std::string large;
    for (int i = 0; i < 3000; ++i)
        large += static_cast<char>('a' + i % 26);
    s.port->send(large);
    s.port->send(frame(60, 'y'));
    CHECK(s.received()->length == 1536);
    CHECK(s.received()->length == 3012 - 1536);
    CHECK(s.header_at(buffers[0]).buffers == 2);
    CHECK(s.driver.ram.text(buffers[0] + 12, 1524) + s.driver.ram.text(buffers[1], 1476) == large);
    CHECK(s.received()->length == 72);
    CHECK(s.header_at(buffers[2]).buffers == 1);
    CHECK(s.driver.ram.text(buffers[2] + 12, 60) == frame(60, 'y'));
}

TEST_CASE("a frame larger than all buffers waits for more of them, and keeps every byte") {
    Setup s;
    s.start(offers | net_feature::offloads);
    std::vector<std::uint64_t> buffers{s.give(100), s.give(100)};
    s.net->kick(0);
    std::string large;
    for (int i = 0; i < 350; ++i)
        large += static_cast<char>('a' + i % 26);
    s.port->send(large);
    s.port->send(frame(20, 'n'));
    CHECK(s.nothing_received());
    buffers.push_back(s.give(100));
    s.net->kick(0);
    CHECK(s.nothing_received());
    CHECK(fakes::busy_for(s.loop, 50ms) < 20ms); // the next frame waits in the port, unwatched
    buffers.push_back(s.give(100));
    s.net->kick(0);
    for (const std::uint32_t length : {100U, 100U, 100U, 62U})
        CHECK(s.received()->length == length);
    CHECK(s.driver.ram.text(buffers[0] + 12, 88) + s.driver.ram.text(buffers[1], 100) +
              s.driver.ram.text(buffers[2], 100) + s.driver.ram.text(buffers[3], 62) ==
          large);
    CHECK(s.header_at(buffers[0]).buffers == 4);
    s.give(100);
    s.net->kick(0);
    CHECK(s.received()->length == 32);
}

TEST_CASE("a frame that can never fit is dropped, and the next one arrives") {
    SECTION("a ring too small for it") {
        Setup s;
        s.start(offers, {2, 2, 0});
        s.give(100);
        s.give(100);
        s.net->kick(0);
        s.port->send(frame(300));
        s.port->send(frame(60));
        CHECK(s.received()->length == 72);
        CHECK(s.net->traffic().received_dropped == 1);
    }
    SECTION("a buffer too small without mergeable buffers") {
        Setup s;
        s.start(offers & ~net_feature::mergeable);
        s.give(100);
        s.give(100);
        s.net->kick(0);
        s.port->send(frame(89));
        s.port->send(frame(88));
        CHECK(s.received()->length == 100);
        CHECK(s.net->traffic().received_dropped == 1);
        CHECK(s.nothing_received());
    }
    SECTION("longer than a frame can be") {
        Setup s;
        s.start(offers);
        s.give(2000);
        s.net->kick(0);
        s.port->send(frame(90'000));
        s.port->send(frame(60));
        CHECK(s.received()->length == 72);
    }
    SECTION("of a kind the driver did not agree to") {
        Setup s;
        s.start(offers);
        s.give(2000);
        s.net->kick(0);
        s.port->send(frame(600), {.flags = 1, .segmentation = 1, .segment_size = 100});
        s.port->send(frame(60));
        CHECK(s.received()->length == 72);
    }
}

TEST_CASE("a receive buffer may begin with pieces smaller than the header") {
    Setup s;
    s.start(offers);
    const auto pieces = s.driver[0].chain().writable(5).writable(10).writable(100).post();
    s.net->kick(0);
    s.port->send(frame(50, 'p'));
    CHECK(s.received()->length == 62);
    CHECK(s.driver.ram.get<std::uint8_t>(pieces[1].address + 5) == 1); // buffers
    CHECK(s.driver.ram.text(pieces[1].address + 7, 3) + s.driver.ram.text(pieces[2].address, 47) == frame(50, 'p'));
}

TEST_CASE("frames wait in the port without keeping the loop busy") {
    Setup s;
    auto quiet = [&] { return fakes::busy_for(s.loop, 50ms) < 20ms; };
    s.port->send(frame(60));
    CHECK(quiet()); // before a driver came
    s.start(offers);
    CHECK(quiet()); // no buffers
    s.give(1526);
    s.net->kick(0);
    CHECK(s.received());
    CHECK(quiet()); // nothing more
    s.port->send(frame(60));
    s.port->send(frame(60));
    CHECK(quiet());
    s.net->reset();
    s.port->send(frame(60));
    CHECK(quiet()); // after the driver left
    s.start(offers);
    s.give(1526);
    s.net->kick(0);
    CHECK(s.received()->length == 72);
}

TEST_CASE("buffers given before the device started are used without a kick") {
    Setup s;
    s.driver.activate(*s.net, offers);
    s.give(1526);
    s.port->send(frame(60));
    CHECK(s.received()->length == 72);
}

TEST_CASE("a ring that breaks the rules stops the device until it is reset") {
    Setup s;
    s.start(offers);
    SECTION("a receive buffer the device may not write") { s.driver[0].chain().readable("xxxxxxxxxxxxxxxx").post(); }
    SECTION("a receive buffer without room for a header") { s.driver[0].chain().writable(11).post(); }
    SECTION("a receive buffer outside memory") { s.driver[0].chain().raw({~std::uint64_t{0} - 100, 50, true}).post(); }
    s.net->kick(0);
    s.port->send(frame(60));
    CHECK(run_until(
        s.loop, [&] { return s.driver.notifier.broken == 1; }, 500ms));
    s.send(frame(60));
    CHECK_FALSE(s.port->take());
    CHECK(fakes::busy_for(s.loop, 50ms) < 20ms);
    s.net->reset();
    s.start(offers);
    s.send(frame(60));
    CHECK(s.port->take());
    s.give(1526);
    s.net->kick(0);
    CHECK(s.received());
}

TEST_CASE("the offloads of the port are those the driver agreed to, and change by command") {
    Setup s;
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
    Setup s;
    s.start(offers);
    CHECK(s.command(0, 0, std::uint8_t{1}, 2) == 1);
    CHECK(s.command(255, 255, std::uint8_t{1}, 2) == 1);
    CHECK(s.command(4, 0, std::uint16_t{1}, 2) == 1); // pairs were not negotiated
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
    Setup s{{.queue_pairs = 3}};
    CHECK(s.net->queue_sizes().size() == 7);
    s.start(offers | net_feature::queue_pairs);
    CHECK(s.port->active == 1);
    s.send(frame(60), {}, 2);
    CHECK_FALSE(s.port->take(2));
    CHECK(s.command(4, 0, std::uint16_t{0}, 6) == 1);
    CHECK(s.command(4, 0, std::uint16_t{4}, 6) == 1);
    CHECK(s.command(4, 0, std::uint16_t{3}, 6) == 0);
    CHECK(s.port->active == 3);
    CHECK(run_until(s.loop, [&] { return s.port->take(2).has_value(); })); // what was sent too early
    s.give(1526, 1);
    s.net->kick(2);
    s.port->send(frame(99), {}, 1);
    CHECK(s.received(1)->length == 111);
    CHECK(s.driver.notifier.used[2] == 1);
    CHECK(s.command(4, 0, std::uint16_t{1}, 6) == 0);
    CHECK(s.port->active == 1);
}

TEST_CASE("a tap that disappears takes the link down, and up when it is back") {
    Setup s;
    s.start(offers);
    s.give(1526);
    s.net->kick(0);
    s.port->vanish();
    REQUIRE(run_until(s.loop, [&] { return s.driver.notifier.config == 1; }));
    CHECK_FALSE(s.net->link_up());
    std::array<std::byte, 2> status{std::byte{9}};
    s.net->read_config(6, status);
    CHECK(status[0] == std::byte{0});
    s.send(frame(60)); // goes nowhere, but comes back
    CHECK(s.driver[1].used());
    CHECK(s.net->traffic().sent_dropped == 1);
    run_for(s.loop, 30ms);
    CHECK(s.net->traffic().losses == 1);
    s.port->missing = false;
    REQUIRE(run_until(s.loop, [&] { return s.driver.notifier.config == 2; }));
    CHECK(s.net->link_up());
    s.send(frame(60));
    CHECK(s.port->take());
    s.port->send(frame(60));
    CHECK(s.received());
}

TEST_CASE("a tap that comes back after a reset serves the next driver") {
    Setup s;
    s.start(offers);
    s.give(1526);
    s.net->kick(0);
    s.port->vanish();
    REQUIRE(run_until(s.loop, [&] { return !s.net->link_up(); }));
    s.net->reset();
    run_for(s.loop, 20ms);
    s.start(offers);
    s.port->missing = false;
    REQUIRE(run_until(s.loop, [&] { return s.net->link_up(); }));
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
    Setup s{options};
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
    CHECK(run_until(s.loop, [&] {
        while (sending ? s.port->take().has_value() : s.driver[0].used().has_value())
            ++seen;
        return seen == 30;
    }));
    CHECK(Clock::now() - begin >= 180ms);
    CHECK(Clock::now() - begin < 600ms);
    CHECK(s.net->traffic().sent_dropped + s.net->traffic().received_dropped == 0);
}

TEST_CASE("new rate limits reach frames that wait for the old ones") {
    NetOptions options;
    options.send_limits.ops = devices::BucketLimits{.size = 1, .one_time_burst = 0, .refill_time = 1h};
    Setup s{options};
    s.start(offers);
    s.send(frame(60));
    s.send(frame(60));
    CHECK(s.port->take());
    run_for(s.loop, 5ms);
    CHECK_FALSE(s.port->take());
    s.net->update_limits({}, {.ops = devices::BucketLimits{}});
    CHECK(run_until(
        s.loop, [&] { return s.port->take().has_value(); }, 1s));
}

TEST_CASE("buffers taken ahead follow when translations change") {
    struct Moving final : vmm::DmaMemory {
        explicit Moving(const fakes::TestRam& ram) : inner{ram.memory} {}
        Hold hold() const override { return {}; }
        [[nodiscard]] std::uint64_t generation() const noexcept override { return change; }
        bool translate(vmm::Range<vmm::Iova> range, vmm::Access access,
                       std::vector<iovec>& out) const noexcept override {
            const auto at = range.start().raw();
            const bool moves = moved && at >= 0x800000;
            return inner.translate(*vmm::Range<vmm::Iova>::sized(vmm::Iova{moves ? at + 0x100000 : at}, range.size()),
                                   access, out);
        }
        vmm::DirectMemory inner;
        std::uint64_t change{1};
        bool moved{false};
    };
    Setup s;
    const Moving memory{s.driver.ram};
    s.driver.activate(*s.net, offers, {}, &memory);
    run_for(s.loop, 2ms);
    for (unsigned i = 0; i < 3; ++i)
        s.driver[0].chain().raw({0x800000 + 0x1000 * i, 100, true}).post();
    s.net->kick(0);
    const_cast<Moving&>(memory).moved = true; // NOLINT
    ++const_cast<Moving&>(memory).change;     // NOLINT
    s.port->send(frame(60, 'm'));
    REQUIRE(s.received());
    CHECK(s.driver.ram.text(0x900000 + 12, 60) == frame(60, 'm'));
    CHECK(s.driver.ram.text(0x800000 + 12, 1) == std::string(1, '\0'));
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
    Setup s{{.filter = std::make_shared<Echo>()}};
    s.start(offers);
    s.give(50);
    s.give(50);
    s.give(50);
    s.net->kick(0);
    if (GENERATE(false, true)) {
        s.port->vanish();
        REQUIRE(run_until(s.loop, [&] { return !s.net->link_up(); }));
    }
    s.send(frame(100, 'f'));
    CHECK_FALSE(s.port->take());
    CHECK(s.received()->length == 50);
    CHECK(s.received()->length == 50);
    CHECK(s.received()->length == 12);
    s.send(frame(60, 'g'));
    CHECK(s.port->take().has_value() == s.net->link_up());
}

TEST_CASE("resetting one receive queue forgets its buffers only") {
    Setup s;
    s.start(offers);
    s.give(1526);
    s.net->kick(0);
    run_for(s.loop, 2ms);
    s.net->reset_queue(0);
    s.port->send(frame(60));
    run_for(s.loop, 5ms);
    CHECK_FALSE(s.driver[0].used());
    s.send(frame(60));
    CHECK(s.port->take());
    fakes::VirtqueueDriver fresh{s.driver.ram, 8};
    s.net->enable_queue(0, Queue{s.driver.ram.direct, fresh.layout, false});
    fresh.chain().writable(200).post();
    s.net->kick(0);
    CHECK(run_until(s.loop, [&] { return fresh.used().has_value(); }));
}

TEST_CASE("drivers come and go on another thread while frames flow") {
    Setup s;
    std::thread runner{[&] { s.loop.run(); }};
    for (int round = 0; round < 50; ++round) {
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
    CHECK(s.net->traffic().sent > 0);
    CHECK(s.net->traffic().received > 0);
}
