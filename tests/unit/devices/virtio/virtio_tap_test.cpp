// SPDX-License-Identifier: Apache-2.0
// Taps of the kernel, in a network namespace of the test's own.
#include "devices/virtio/net/tap.hpp"

#include <linux/capability.h>
#include <sys/syscall.h>

#include "devices/virtio/net/net.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/network_namespace.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_tap_test {

using namespace devices::virtio;
using namespace std::chrono_literals;
using tests::in_network_namespace;
using tests::ip;
using tests::run_for;
using tests::run_until;
using tests::Station;

namespace {

/// Runs `body` in a network namespace, or prints why it cannot.
void networked(const std::function<void()>& body) {
    if (const auto reason = in_network_namespace(body); !reason.empty())
        WARN("skipped: " << reason);
}

/// Takes this thread's right to make or take over interfaces.
void drop_network_rights() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> data{};
    REQUIRE(::syscall(SYS_capget, &header, data.data()) == 0);
    data[0].effective &= ~(1U << CAP_NET_ADMIN);
    REQUIRE(::syscall(SYS_capset, &header, data.data()) == 0);
}

Error refused(const char* name, unsigned pairs = 1) {
    const auto done = (*Tap::create(name))->open(pairs);
    return done ? Error{.code = Errc::internal, .what = "opened"} : done.error();
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

struct Guest {
    EventLoop loop{};
    fakes::VirtioDriver driver{};
    std::shared_ptr<Net> net;

    explicit Guest(NetOptions options) {
        options.retry = 5ms;
        net = *Net::create(options, loop);
        driver.activate(*net, net->features() & ~net_feature::guest_offloads);
        for (int i = 0; i < 64; ++i)
            driver[0].chain().writable(1536).post();
        run_for(loop, 2ms);
    }
    ~Guest() { net->reset(); }
    void send(const std::string& bytes, NetHeader header = {}) {
        driver[1].chain().readable(header).readable(bytes).post();
        net->kick(1);
    }
};

} // namespace

TEST_CASE("a tap that does not exist is made, brought up, and gone at the end") {
    networked([] {
        auto tap = *Tap::create("made0");
        CHECK_FALSE(tests::interface_exists("made0"));
        const tests::LogCapture log;
        REQUIRE(tap->open(1));
        CHECK(log.text().find("ip tuntap add dev made0 mode tap") != std::string::npos);
        CHECK(tests::interface_exists("made0"));
        CHECK(tap->mtu() == 1500);
        CHECK(Station{"made0"}.send("up"));
        CHECK((tap->capabilities() & net_feature::host_tso4) != 0);
        tap.reset();
        CHECK_FALSE(tests::interface_exists("made0"));
    });
}

TEST_CASE("a tap that is in use, of another kind or without rights is refused with a hint") {
    networked([] {
        ip("tuntap add dev t0 mode tap");
        ip("tuntap add dev t4 mode tap multi_queue");
        ip("link add name b0 type bridge");
        auto owner = *Tap::create("t0");
        REQUIRE(owner->open(1));
        CHECK(refused("t0").code == Errc::already_exists);
        CHECK(contains(refused("t0").message(), "cannot use tap 't0'"));
        owner->close();
        CHECK(contains(refused("t0", 2).hint, "multi_queue"));
        CHECK(contains(refused("b0").hint, "not a tap"));
        CHECK(refused("t4", 1).what == "opened");
        CHECK(refused("t4", 4).what == "opened");
        ip("link set t4 up");
        auto sharer = *Tap::create("t4");
        REQUIRE(sharer->open(2));
        CHECK(refused("t4", 2).code == Errc::already_exists); // the kernel alone would give it more queues
        CHECK(sharer->open(2));
        sharer->close();
        CHECK(refused("t4", 2).what == "opened");
        CHECK(refused("t0").what == "opened");
        drop_network_rights();
        CHECK(refused("absent0").code == Errc::not_found);
        CHECK(contains(refused("absent0").hint, "ip tuntap add dev absent0"));
    });
}

TEST_CASE("frames pass between guest and network") {
    networked([] {
        ip("tuntap add dev t0 mode tap");
        ip("link set t0 mtu 1400 up");
        Guest guest{{.tap = "t0"}};
        std::array<std::byte, 2> mtu{};
        guest.net->read_config(10, mtu);
        CHECK(load_le(mtu) == 1400);
        Station station{"t0"};
        guest.send(Station::frame("hello network"));
        CHECK(station.receive() == "hello network");
        REQUIRE(station.send("hello guest" + std::string(100, '.')));
        bool seen = false;
        CHECK(run_until(guest.loop, [&] {
            while (const auto used = guest.driver[0].used())
                seen |= used->length == 12 + 14 + 111;
            return seen;
        }));
    });
}

TEST_CASE("a segment larger than the MTU crosses the tap whole") {
    networked([] {
        ip("tuntap add dev t0 mode tap");
        ip("link set t0 up");
        Guest guest{{.tap = "t0"}};
        // Headers of Ethernet, IPv4 and TCP, complete enough for the host to accept the frame.
        std::string frame("\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\0", 14);
        frame += std::string("\x45\0\x3a\xb0\0\0\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02", 20);
        frame += std::string("\0\x50\0\x51\0\0\0\0\0\0\0\0\x50\x10\xff\xff\0\0\0\0", 20);
        frame += std::string(0x3ab0 - 40, 'd');
        NetHeader header{.flags = 1,
                         .segmentation = 1,
                         .header_length = 54,
                         .segment_size = 1448,
                         .checksum_start = 34,
                         .checksum_offset = 16};
        guest.send(frame, header);
        CHECK(guest.net->traffic().sent == 1);
        header.checksum_start = static_cast<std::uint16_t>(frame.size() - 18); // leaves no room for a TCP header
        guest.send(frame, header);
        CHECK(guest.net->traffic().sent_dropped == 1);
        CHECK(guest.net->counters().bad_requests == 1);
        CHECK(guest.driver[1].used());
        CHECK(guest.driver[1].used());
    });
}

TEST_CASE("a deleted tap takes the link down until it exists again") {
    networked([] {
        ip("tuntap add dev t0 mode tap");
        ip("link set t0 up");
        Guest guest{{.tap = "t0"}};
        ip("link del t0");
        REQUIRE(run_until(guest.loop, [&] { return !guest.net->link_up(); }));
        CHECK(guest.driver.notifier.config == 1);
        run_for(guest.loop, 30ms);
        CHECK_FALSE(tests::interface_exists("t0")); // the device does not make it again by itself
        ip("tuntap add dev t0 mode tap");
        ip("link set t0 up");
        REQUIRE(run_until(guest.loop, [&] { return guest.net->link_up(); }));
        Station station{"t0"};
        guest.send(Station::frame("back"));
        CHECK(station.receive() == "back");
    });
}

TEST_CASE("a tap deleted while the guest sends is noticed too") {
    networked([] {
        ip("tuntap add dev t0 mode tap");
        ip("link set t0 up");
        Guest guest{{.tap = "t0"}};
        ip("link del t0");
        guest.send(Station::frame("lost"));
        CHECK_FALSE(guest.net->link_up());
        CHECK(guest.driver[1].used());
    });
}

TEST_CASE("frames to a tap that is down are dropped, not held") {
    networked([] {
        ip("tuntap add dev t0 mode tap");
        Guest guest{{.tap = "t0"}};
        guest.send(Station::frame("nobody"));
        CHECK(guest.net->traffic().sent_dropped == 1);
        CHECK(guest.net->link_up());
        ip("link set t0 up");
        Station station{"t0"};
        guest.send(Station::frame("somebody"));
        CHECK(station.receive() == "somebody");
    });
}

TEST_CASE("queue pairs come and go on a tap made for them") {
    networked([] {
        ip("tuntap add dev t0 mode tap multi_queue");
        ip("link set t0 up");
        auto tap = *Tap::create("t0");
        REQUIRE(tap->open(3));
        for (const unsigned pairs : {1U, 3U, 2U, 1U, 3U}) {
            tap->set_active_pairs(pairs);
            CHECK(Station{"t0"}.send("x"));
        }
        tap->close();
        CHECK(tests::interface_exists("t0"));
    });
}

} // namespace inox::virtio_tap_test
