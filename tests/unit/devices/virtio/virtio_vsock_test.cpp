// SPDX-License-Identifier: Apache-2.0
// The host's socket, who may connect to whom, limits, and resets.
#include "devices/virtio/vsock/vsock.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/base/descriptors.hpp"

namespace inox::virtio_vsock_test {

using namespace devices::virtio;
using namespace std::chrono_literals;
using fakes::HostListener;
using fakes::HostStream;
using fakes::VsockGuest;
using Op = VsockOp;

namespace {

constexpr std::uint32_t both = vsock_shutdown_receive | vsock_shutdown_send;

} // namespace

TEST_CASE("a CID below 3 or above 32 bits and a path without room for a port are refused with the number") {
    EventLoop loop;
    fakes::TemporaryFolder folder;
    for (const std::uint64_t cid : {0ULL, 1ULL, 2ULL, 0xffffffffULL, 0x1'0000'0003ULL}) {
        const auto done = Vsock::create({.guest_cid = cid, .uds_path = folder.path + "/v"}, loop);
        REQUIRE_FALSE(done);
        CHECK(done.error().code == Errc::config_value);
        CHECK(done.error().what.find(std::to_string(cid)) != std::string::npos);
    }
    const std::string longest = folder.path + "/" + std::string(96 - folder.path.size() - 1, 'x');
    CHECK(Vsock::create({.guest_cid = 3, .uds_path = longest}, loop));
    const auto longer = Vsock::create({.guest_cid = 3, .uds_path = longest + "x"}, loop);
    CHECK(longer.error().code == Errc::config_value);
    CHECK(longer.error().what.find("97 bytes is 1 too long") != std::string::npos);
    CHECK(VsockListener::check(longest));
    CHECK(VsockListener::check(longest + "x").error().what == longer.error().what);
    CHECK(VsockListener::length_problem(108).find("108 bytes is 12 too long") != std::string::npos);
    CHECK(Vsock::create({.guest_cid = 3, .uds_path = ""}, loop).error().code == Errc::config_value);
}

TEST_CASE("the socket is the owner's alone, replaces a stale one, and goes with the device") {
    fakes::TemporaryFolder folder;
    const std::string path = folder.path + "/v.sock";
    struct stat status {};
    {
        const auto listener = VsockListener::create(path);
        REQUIRE(listener);
        REQUIRE(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0600);
        const auto second = VsockListener::create(path);
        REQUIRE_FALSE(second);
        CHECK(second.error().code == Errc::already_exists);
        CHECK(::stat(path.c_str(), &status) == 0);
    }
    CHECK(::stat(path.c_str(), &status) != 0);
    { // a socket file that a killed process left
        const UniqueFd dead{::socket(AF_UNIX, SOCK_STREAM, 0)};
        sockaddr_un address{AF_UNIX, {}};
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    }
    CHECK(VsockListener::create(path));
    (void)*open_file(path, O_CREAT | O_WRONLY, Errc::internal);
    CHECK(VsockListener::create(path).error().code == Errc::already_exists);
    CHECK(std::filesystem::exists(path));
    CHECK(VsockListener::create(folder.path + "/none/v").error().code == Errc::host_error);
}

TEST_CASE("the configuration is the CID, whatever part is read") {
    VsockGuest guest;
    std::array<std::byte, 8> all{};
    guest.device->read_config(0, all);
    CHECK(load_le(all) == VsockGuest::cid);
    guest.device->read_config(1, all);
    CHECK(load_le(all) == 0);
    guest.device->read_config(~std::uint64_t{0}, all);
    CHECK(load_le(all) == 0);
}

TEST_CASE("a host program reaches a port of the guest by CONNECT, and both talk") {
    VsockGuest guest;
    auto program = guest.connect();
    REQUIRE(program.send("CONNECT 1234\nearly"));
    const auto request = guest.next();
    CHECK(request.op() == Op::request);
    CHECK(request.header.source_cid == 2);
    CHECK(request.header.destination_cid == VsockGuest::cid);
    CHECK(request.header.destination_port == 1234);
    CHECK(request.header.type == vsock_stream);
    CHECK(request.header.buffer_size == 256 * 1024);
    CHECK(program.take().empty());
    const VsockPorts ports{1234, request.header.source_port};
    guest.send(Op::response, ports);
    CHECK(program.take() == "OK " + std::to_string(ports.host) + "\n");
    CHECK(guest.next().payload == "early"); // what the program sent with the line is for the guest
    guest.send(Op::data, ports, "from guest");
    CHECK(program.take() == "from guest");
    program.send("from host");
    const auto data = guest.next();
    CHECK(data.op() == Op::data);
    CHECK(data.payload == "from host");
    CHECK(data.header.forwarded == 10);
    CHECK(guest.device->traffic().open == 1);
}

TEST_CASE("a CONNECT in pieces works, and one that is wrong or endless is hung up on") {
    VsockGuest guest;
    auto slow = guest.connect();
    for (const char* part : {"CON", "NECT", " 12", "\n"}) {
        slow.send(part);
        tests::run_for(guest.loop, 2ms);
    }
    CHECK(guest.next().header.destination_port == 12);
    for (const std::string text : {"GET / HTTP/1.1\r\n", "CONNECT\n", "\n", "CONNECT 99999999999\n"}) {
        auto wrong = guest.connect();
        wrong.send(text);
        CHECK(guest.until([&] { return wrong.ended(); }));
    }
    auto endless = guest.connect();
    endless.send(std::string(1000, 'C'));
    CHECK(guest.until([&] { return endless.ended(); }));
    guest.connect().close();
    CHECK(guest.nothing());
}

TEST_CASE("a guest that refuses, or does not answer, ends the program's connection") {
    VsockGuest guest{{.request_timeout = 20ms}};
    auto refused = guest.connect();
    refused.send("CONNECT 1\n");
    const auto first = guest.next();
    guest.send(Op::reset, {1, first.header.source_port});
    CHECK(guest.until([&] { return refused.ended(); }));
    auto ignored = guest.connect();
    ignored.send("CONNECT 2\n");
    const auto second = guest.next();
    CHECK(second.header.source_port != first.header.source_port);
    CHECK(guest.until([&] { return ignored.ended(); }));
    CHECK(guest.next().op() == Op::reset);
    guest.send(Op::response, {2, second.header.source_port}); // too late
    CHECK(guest.next().op() == Op::reset);
}

TEST_CASE("a guest reaches a program that listens at the path of its port") {
    VsockGuest guest;
    HostListener listener{guest.path("_52")};
    guest.send(Op::request, {5000, 52});
    const auto response = guest.next();
    CHECK(response.op() == Op::response);
    CHECK(response.header.source_port == 52);
    CHECK(response.header.destination_port == 5000);
    auto program = listener.accept();
    REQUIRE(program);
    program->send("hello");
    CHECK(guest.next().payload == "hello");
    guest.send(Op::data, {5000, 52}, "hi");
    CHECK(program->take() == "hi");
}

TEST_CASE("what leads nowhere is answered with a reset") {
    VsockGuest guest;
    guest.send(Op::request, {5000, 53}); // nobody listens
    auto reset = guest.next();
    CHECK(reset.op() == Op::reset);
    CHECK(reset.header.source_port == 53);
    CHECK(reset.header.destination_port == 5000);
    for (const auto op : {Op::data, Op::response, Op::shutdown, Op::credit_update, Op::credit_request}) {
        guest.send(op, {1, 2});
        CHECK(guest.next().op() == Op::reset);
    }
    auto header = guest.head(Op::request, {1, 2});
    header.type = 2; // seqpacket
    guest.send(header);
    reset = guest.next();
    CHECK(reset.op() == Op::reset);
    CHECK(reset.header.type == 2);
    guest.send(Op::reset, {1, 2});
    header.source_cid = 99;
    guest.send(header);
    guest.driver[1].chain().readable("short").post();
    guest.driver[1].chain().writable(100).post();
    guest.device->kick(1);
    CHECK(guest.nothing());
    CHECK(guest.device->traffic().refused == 1);
    CHECK(guest.device->counters().bad_requests == 4);
    CHECK(guest.driver.notifier.broken == 0);
}

TEST_CASE("a request for ports that are connected already resets the connection") {
    VsockGuest guest;
    auto [program, ports] = guest.open_from_guest();
    guest.send(Op::request, ports);
    CHECK(guest.next().op() == Op::reset);
    CHECK(guest.until([&] { return program.ended(); }));
}

TEST_CASE("a connection to a CID that there is not is reset at once, by that CID, and is no fault of the guest") {
    VsockGuest guest;
    HostListener listener{guest.path("_52")};
    for (const std::uint64_t cid : {0ULL, 1ULL, 3ULL, 42ULL, 0xfffffffeULL}) {
        auto header = guest.head(Op::request, {5000, 52});
        header.destination_cid = cid;
        guest.send(header);
        const auto answer = guest.next();
        CHECK(answer.op() == Op::reset);
        CHECK(answer.header.source_cid == cid); // the driver looks for the socket by this
        CHECK(answer.header.source_port == 52);
        CHECK(answer.header.destination_cid == VsockGuest::cid);
        CHECK(answer.header.destination_port == 5000);
    }
    CHECK_FALSE(listener.accept());
    CHECK(guest.device->counters().bad_requests == 0);
}

TEST_CASE("connections leave the API its descriptors, and the guest and the operator hear of it") {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit small{512, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &small) == 0);
    unsigned opened = 0, refused = 0, most = 0;
    std::string told;
    {
        const tests::LogCapture log;
        const descriptors::Reserve api{150};
        VsockGuest guest;
        HostListener listener{guest.path("_1")};
        for (std::uint32_t i = 0; i < 300; ++i) {
            guest.send(Op::request, {i, 1});
            (void)listener.accept(); // closed at once: only the device's descriptors count
            while (const auto packet = guest.look()) {
                opened += packet->op() == Op::response;
                refused += packet->op() == Op::reset;
            }
            const UniqueFd highest{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
            most = std::max(most, static_cast<unsigned>(highest.get()));
        }
        CHECK(guest.device->limit() == (512 - 150 - 128) / 3);
        CHECK(guest.device->traffic().refused_limit == refused);
        told = log.text();
    }
    ::setrlimit(RLIMIT_NOFILE, &limit);
    CHECK(opened != 0);
    CHECK(refused != 0);
    CHECK(opened + refused >= 300);
    CHECK(most < 512 - 150);
    CHECK(told.find("ulimit -n") != std::string::npos);
}

TEST_CASE("connections have a limit, and those that end make room") {
    VsockGuest guest;
    HostListener listener{guest.path("_1")};
    std::vector<HostStream> programs;
    unsigned opened = 0;
    unsigned refused = 0;
    const auto collect = [&] {
        while (auto program = listener.accept())
            programs.push_back(std::move(*program));
        while (const auto packet = guest.look()) {
            opened += packet->op() == Op::response;
            refused += packet->op() == Op::reset;
        }
    };
    // Three descriptors each: as many connections as this process may have, or the device's own limit.
    for (std::uint32_t i = 0; i < Vsock::max_connections + 10; ++i) {
        guest.send(Op::request, {i, 1});
        collect();
    }
    tests::run_for(guest.loop, 10ms);
    collect();
    CHECK(opened + refused == Vsock::max_connections + 10);
    CHECK(refused >= 10);
    CHECK(opened == guest.device->traffic().open);
    for (std::uint32_t i = 0; i < 20; ++i)
        guest.send(Op::shutdown, {i, 1}, {}, both);
    tests::run_for(guest.loop, 10ms);
    collect();
    const unsigned before = opened;
    programs.clear();
    guest.send(Op::request, {5000, 1});
    tests::run_for(guest.loop, 10ms);
    collect();
    CHECK(opened == before + 1);
}

TEST_CASE("programs that connect and say nothing do not keep others out") {
    VsockGuest guest;
    std::vector<HostStream> silent;
    for (unsigned i = 0; i < Vsock::max_greetings + 20; ++i) {
        silent.push_back(guest.connect());
        tests::run_for(guest.loop, 1ms);
    }
    auto program = guest.connect();
    program.send("CONNECT 5\n");
    CHECK(guest.next().op() == Op::request);
    CHECK(silent.front().ended());
    CHECK_FALSE(silent.back().ended());
}

TEST_CASE("a program that connects before the guest's driver is there waits for it") {
    VsockGuest guest;
    guest.device->reset();
    tests::run_for(guest.loop, 2ms);
    auto program = guest.connect();
    program.send("CONNECT 5\n");
    CHECK(tests::busy_for(guest.loop, 50ms) < 20ms);
    CHECK(program.take().empty());
}

TEST_CASE("a reset of the device ends all connections") {
    VsockGuest guest;
    auto [one, ports] = guest.open_from_guest();
    auto [two, other] = guest.open_from_host();
    auto greeting = guest.connect();
    tests::run_for(guest.loop, 2ms);
    guest.device->reset();
    tests::run_for(guest.loop, 5ms);
    CHECK(one.ended());
    CHECK(two.ended());
    CHECK(greeting.ended());
    CHECK(guest.device->traffic().open == 0);
}

TEST_CASE("receive buffers that break the rules stop the device until it is reset") {
    VsockGuest guest{{}, 0};
    SECTION("not writable") { guest.driver[0].chain().readable(std::string(100, 'x')).post(); }
    SECTION("no room beyond a header") { guest.driver[0].chain().writable(44).post(); }
    SECTION("outside memory") { guest.driver[0].chain().raw({1ULL << 40, 4096, true}).post(); }
    guest.send(Op::data, {1, 2});
    guest.device->kick(0);
    CHECK(guest.driver.notifier.broken == 1);
    CHECK(tests::busy_for(guest.loop, 20ms) < 10ms);
}

TEST_CASE("drivers come and go on another thread while programs connect") {
    VsockGuest guest;
    std::thread runner{[&] {
        guest.loop.restart();
        guest.loop.run();
    }};
    for (int round = 0; round < 30; ++round) {
        guest.device->reset();
        guest.driver.prepare(*guest.device, 0);
        for (int i = 0; i < 8; ++i)
            guest.driver[0].chain().writable(4140).post();
        guest.driver[1].chain().readable(guest.head(Op::request, {1, 1})).post();
        guest.driver.start(*guest.device);
        auto program = guest.connect();
        program.send("CONNECT 5\n");
        guest.loop.call([] {});
    }
    guest.loop.stop();
    runner.join();
}

} // namespace inox::virtio_vsock_test
