// SPDX-License-Identifier: Apache-2.0
// Frames on their way to the guest.
#include "devices/virtio/net/receiver.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/net_guest.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_net_receive_test {

using namespace inox::devices::virtio;
using namespace std::chrono_literals;
using namespace inox::fakes;

TEST_CASE("a frame received lands behind its header in the driver's buffer") {
    NetGuest s;
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
    NetGuest s;
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
    NetGuest s;
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
    CHECK(tests::busy_for(s.loop, 50ms) < 20ms); // the next frame waits in the port, which is not watched
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
        NetGuest s;
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
        NetGuest s;
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
        NetGuest s;
        s.start(offers);
        s.give(2000);
        s.net->kick(0);
        s.port->send(frame(90'000));
        s.port->send(frame(60));
        CHECK(s.received()->length == 72);
    }
    SECTION("of a kind the driver did not agree to") {
        NetGuest s;
        s.start(offers);
        s.give(2000);
        s.net->kick(0);
        s.port->send(frame(600), {.flags = 1, .segmentation = 1, .segment_size = 100});
        s.port->send(frame(60));
        CHECK(s.received()->length == 72);
    }
}

TEST_CASE("a receive buffer may begin with pieces smaller than the header") {
    NetGuest s;
    s.start(offers);
    const auto pieces = s.driver[0].chain().writable(5).writable(10).writable(100).post();
    s.net->kick(0);
    s.port->send(frame(50, 'p'));
    CHECK(s.received()->length == 62);
    CHECK(s.driver.ram.get<std::uint8_t>(pieces[1].address + 5) == 1); // the number of buffers
    CHECK(s.driver.ram.text(pieces[1].address + 7, 3) + s.driver.ram.text(pieces[2].address, 47) == frame(50, 'p'));
}

TEST_CASE("frames wait in the port without keeping the loop busy") {
    NetGuest s;
    auto quiet = [&] { return tests::busy_for(s.loop, 50ms) < 20ms; };
    s.port->send(frame(60));
    CHECK(quiet()); // before a driver starts
    s.start(offers);
    CHECK(quiet()); // without buffers
    s.give(1526);
    s.net->kick(0);
    CHECK(s.received());
    CHECK(quiet()); // no more frames
    s.port->send(frame(60));
    s.port->send(frame(60));
    CHECK(quiet());
    s.net->reset();
    s.port->send(frame(60));
    CHECK(quiet()); // after the driver has left
    s.start(offers);
    s.give(1526);
    s.net->kick(0);
    CHECK(s.received()->length == 72);
}

TEST_CASE("buffers given before the device started are used without a kick") {
    NetGuest s;
    s.driver.activate(*s.net, offers);
    s.give(1526);
    s.port->send(frame(60));
    CHECK(s.received()->length == 72);
}

TEST_CASE("a ring that breaks the rules stops the device until it is reset") {
    NetGuest s;
    s.start(offers);
    SECTION("a receive buffer the device may not write") { s.driver[0].chain().readable("xxxxxxxxxxxxxxxx").post(); }
    SECTION("a receive buffer without room for a header") { s.driver[0].chain().writable(11).post(); }
    SECTION("a receive buffer outside memory") { s.driver[0].chain().raw({~std::uint64_t{0} - 100, 50, true}).post(); }
    s.net->kick(0);
    s.port->send(frame(60));
    CHECK(tests::run_until(
        s.loop, [&] { return s.driver.notifier.broken == 1; }, 500ms));
    s.send(frame(60));
    CHECK_FALSE(s.port->take());
    CHECK(tests::busy_for(s.loop, 50ms) < 20ms);
    s.net->reset();
    s.start(offers);
    s.send(frame(60));
    CHECK(s.port->take());
    s.give(1526);
    s.net->kick(0);
    CHECK(s.received());
}

TEST_CASE("buffers taken ahead follow when translations change") {
    struct Moving final : DmaMemory {
        explicit Moving(const TestRam& ram) : inner{ram.memory} {}
        Hold hold() const override { return {}; }
        [[nodiscard]] std::uint64_t generation() const noexcept override { return change; }
        [[nodiscard]] Translated do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                              TranslationLimit& limit) const noexcept override {
            const auto at = range.start().raw();
            const bool moves = moved && at >= 0x800000;
            return inner.translate(*Range<Iova>::sized(Iova{moves ? at + 0x100000 : at}, range.size()), access, out,
                                   limit);
        }
        DirectMemory inner;
        std::uint64_t change{1};
        bool moved{false};
    };
    NetGuest s;
    const Moving memory{s.driver.ram};
    s.driver.activate(*s.net, offers, {}, &memory);
    tests::run_for(s.loop, 2ms);
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

TEST_CASE("resetting one receive queue forgets its buffers only") {
    NetGuest s;
    s.start(offers);
    s.give(1526);
    s.net->kick(0);
    tests::run_for(s.loop, 2ms);
    s.net->reset_queue(0);
    s.port->send(frame(60));
    tests::run_for(s.loop, 5ms);
    CHECK_FALSE(s.driver[0].used());
    s.send(frame(60));
    CHECK(s.port->take());
    VirtqueueDriver fresh{s.driver.ram, 8};
    s.net->enable_queue(0, Queue{s.driver.ram.direct, fresh.layout, false});
    fresh.chain().writable(200).post();
    s.net->kick(0);
    CHECK(tests::run_until(s.loop, [&] { return fresh.used().has_value(); }));
}

} // namespace inox::virtio_net_receive_test
