// SPDX-License-Identifier: Apache-2.0
// A broker that does not answer, or is no more: what those wait for whom others wait for, and what is done late.
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>

#include "tests/catch.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/confine/broker.hpp"

namespace inox::confine_broker_silence_test {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using confine::Broker;
using confine::Purpose;
using devices::virtio::VsockOp;
using tests::eventually;
using Clock = std::chrono::steady_clock;

namespace {

struct World {
    World() {
        REQUIRE(broker->allow(folder.path, Purpose::write));
        REQUIRE(broker->allow(folder.path + "/result", Purpose::write));
        REQUIRE(broker->seal());
        std::ofstream{folder.path + "/disk"} << "disk";
        outside::use(broker.get());
    }
    ~World() {
        outside::use(nullptr);
        go_on();
    }
    World(const World&) = delete;
    World& operator=(const World&) = delete;
    void stand_still() const { REQUIRE(::kill(broker->pid(), SIGSTOP) == 0); }
    void go_on() const { ::kill(broker->pid(), SIGCONT); }
    [[nodiscard]] int open(int flags = O_RDONLY, const std::string& name = "/disk") const {
        return broker->open(folder.path + name, flags | O_CLOEXEC, 0600, outside::Wait::usual) ? 0 : errno;
    }
    fakes::TemporaryFolder folder{};
    std::unique_ptr<Broker> broker = *Broker::start();
};

} // namespace

TEST_CASE("who is waited for waits for a stopped broker for 50 ms, and no second time") {
    const World world;
    world.stand_still();
    const outside::Brief brief;
    auto start = Clock::now();
    CHECK(world.open() == outside::unanswered);
    CHECK(Clock::now() - start < 2s); // a busy machine
    start = Clock::now();
    for (int i = 0; i < 1000; ++i)
        CHECK(world.open() == outside::unanswered);
    CHECK(Clock::now() - start < 10s);
    CHECK(world.broker->state() == Broker::State::silent);
    CHECK_FALSE(world.broker->connect_later(0, world.folder.path + "/v.sock_1"));
    CHECK(errno == outside::unanswered);
    world.go_on();
    CHECK(eventually([&] { return world.open() == 0; }));
    CHECK(world.broker->state() == Broker::State::answers);
}

TEST_CASE("the loop is waited for, what is beside it is not") {
    EventLoop loop;
    CHECK_FALSE(outside::is_brief());
    bool brief = false;
    loop.post([&] {
        brief = outside::is_brief();
        loop.stop();
    });
    loop.run();
    CHECK(brief);
    CHECK_FALSE(outside::is_brief());
}

TEST_CASE("what nobody waits for any more is not made, and what is to go goes late") {
    const World world;
    world.stand_still();
    {
        const outside::Brief brief;
        CHECK(world.open(O_RDWR | O_CREAT, "/late") == outside::unanswered);
        CHECK_FALSE(world.broker->remove(world.folder.path + "/disk"));
        CHECK_FALSE(world.broker->replace(world.folder.path + "/result", "late"));
    }
    world.go_on();
    CHECK(eventually([&] { return fs::exists(world.folder.path + "/result"); }));
    CHECK_FALSE(fs::exists(world.folder.path + "/disk"));
    CHECK_FALSE(fs::exists(world.folder.path + "/late"));
}

TEST_CASE("a thread that may wait gives up when it is told to") {
    const World world;
    world.stand_still();
    const auto stop = *EventFd::create();
    stop.signal();
    const auto start = Clock::now();
    const outside::Until until{stop.fd()};
    CHECK(world.open() == outside::unanswered);
    CHECK(Clock::now() - start < 4s); // it would be five
}

TEST_CASE("an end with a stopped broker waits once, not for each file") {
    const World world;
    world.stand_still();
    CHECK(world.open() == outside::unanswered);
    const auto start = Clock::now();
    for (int i = 0; i < 20; ++i)
        CHECK_FALSE(world.broker->remove(world.folder.path + "/none"));
    CHECK(Clock::now() - start < 10s); // each for five would be a hundred
}

TEST_CASE("a dead broker is an error with a hint, at once") {
    const World world;
    REQUIRE(::kill(world.broker->pid(), SIGKILL) == 0);
    CHECK(eventually([&] { return world.broker->state() == Broker::State::ended; }));
    CHECK(world.open() == outside::gone);
    CHECK_FALSE(world.broker->start_share(world.folder.path, true));
    CHECK(errno == outside::gone);
    CHECK(world.broker->status(1) == outside::Door::unknown);
    world.broker->end(1);
    errno = outside::gone;
    const auto error = fail_errno(Errc::disk_missing, "cannot open 'x'").error();
    CHECK(error.code == Errc::host_error);
    CHECK(error.message().ends_with("the process that opens files for inox has ended"));
    CHECK(error.hint.contains("start inox again"));
    errno = outside::unanswered;
    CHECK(fail_errno(Errc::disk_missing, "cannot open 'x'").error().code == Errc::timed_out);
}

TEST_CASE("a guest's connection waits for a stopped broker beside the loop") {
    const World world;
    fakes::VsockGuest guest;
    const fs::path listens = guest.path("_52");
    fakes::HostListener listener{listens};
    // The list has the guest's folder, not this one: what counts is when the answer comes.
    world.stand_still();
    const auto start = Clock::now();
    guest.send(VsockOp::request, {5000, 52});
    tests::run_for(guest.loop, 100ms);
    CHECK(Clock::now() - start < 2s);
    CHECK(guest.nothing());
    world.go_on();
    CHECK(guest.next().op() == VsockOp::reset);
    CHECK(guest.device->traffic().open == 0);
    CHECK(guest.device->traffic().refused == 1);
    // And given up by the guest, or by the device.
    world.stand_still();
    guest.send(VsockOp::request, {5001, 52});
    guest.send(VsockOp::reset, {5001, 52});
    guest.send(VsockOp::request, {5002, 52});
    tests::run_for(guest.loop, 10ms);
    CHECK(guest.device->traffic().open == 1);
    CHECK(guest.until([&] { return guest.device->traffic().open == 0; }));
    CHECK(guest.next().op() == VsockOp::reset);
    CHECK(guest.device->traffic().opened == 0);
}

} // namespace inox::confine_broker_silence_test
