// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/fs.hpp"

#include <cerrno>
#include <unistd.h>

#include "devices/virtio/transport.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/vhost_user_daemon.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::virtio_fs_test {

using namespace devices::virtio;
using fakes::VhostUserDaemon;
using Manner = VhostUserDaemon::Manner;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::uint64_t rings = feature::indirect | feature::event_index | feature::version_1;

/// A guest with one share. The order of the members destroys the device first.
struct World {
    tests::LogCapture log{};
    fakes::TemporaryFolder folder{};
    std::string path{std::string{folder.path.data()} + "/work.sock"};
    EventLoop loop{};
    fakes::VirtioDriver driver{};
    std::shared_ptr<Fs> fs{};

    Result<void> create() {
        fs = TRY(Fs::create({.tag = "work", .socket = path}, loop, driver.ram.memory));
        return {};
    }
    void activate() { driver.activate(*fs, rings); }
    bool broken(std::chrono::milliseconds limit = std::chrono::seconds{30}) {
        return tests::run_until(
            loop, [&] { return driver.notifier.broken != 0; }, limit);
    }
    bool runs(VhostUserDaemon& daemon, unsigned count = 2) {
        return tests::run_until(loop, [&] { return daemon.count(VhostUserDaemon::enable_ring) == count; });
    }
};

template <class F> std::chrono::nanoseconds time_of(F&& work) {
    const auto start = Clock::now();
    work();
    return Clock::now() - start;
}

} // namespace

TEST_CASE("a daemon is offered only memory that it can be given") {
    EventLoop loop;
    const FsOptions options{.tag = "work", .socket = "/nonexistent/work.sock"};
    const auto made = [&](GuestMemory::Sharing sharing) {
        const auto memory = *GuestMemory::create(4 * MiB, HugePages::transparent, sharing);
        return Fs::create(options, loop, memory);
    };
    const auto refused = made(GuestMemory::Sharing::unneeded).error();
    CHECK(refused.code == Errc::wrong_state);
    CHECK(refused.what.find("'work'") != std::string::npos);
    CHECK(refused.hint.find("--huge-pages none") != std::string::npos);
    CHECK(tests::eventually([&] { // no daemon listens there, which a busy machine may find out later
        const auto without = made(GuestMemory::Sharing::needed);
        return !without && without.error().code == Errc::not_found;
    }));
}

TEST_CASE("a daemon that answers wrongly is refused at the start") {
    World world;
    const auto [manner, text] = GENERATE(table<Manner, const char*>({
        {Manner::truncates, "closed the connection"},
        {Manner::short_answer, "4 bytes"},
        {Manner::wrong_answer, "has request 2"},
        {Manner::refuses, "refused a message"},
        {Manner::without_rings, "lacks ring features"},
    }));
    const VhostUserDaemon daemon{world.path, manner};
    const auto made = world.create();
    if (made) { // on a busy machine the failure comes after create() and shows at the first use
        world.activate();
        CHECK(world.broken());
    } else {
        CAPTURE(made.error().what);
        CHECK(made.error().what.find(text) != std::string::npos);
        CHECK(made.error().what.find(world.path) != std::string::npos);
    }
}

TEST_CASE("nobody waits for a daemon that hangs, and its device breaks in the end") {
    World world;
    const auto manner = GENERATE(Manner::silent, Manner::drips, Manner::not_accepting);
    const VhostUserDaemon daemon{world.path, manner};
    const UniqueFd fills_backlog{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (manner == Manner::not_accepting) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, world.path.data(), world.path.size());
        // NOLINTNEXTLINE: the socket interface casts
        REQUIRE(::connect(fills_backlog.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    }
    CHECK(time_of([&] { REQUIRE(world.create()); }) < VhostUser::conversation_time / 2);
    CHECK(time_of([&] { world.activate(); }) < VhostUser::conversation_time / 2);
    CHECK(world.broken());
    CHECK(world.log.text().find("the device failed") != std::string::npos);
    CHECK(time_of([&] { world.fs->reset(); }) < VhostUser::conversation_time / 2);
}

TEST_CASE("a device whose daemon hangs goes at once") {
    World world;
    const VhostUserDaemon daemon{world.path, Manner::silent};
    REQUIRE(world.create());
    world.activate();
    CHECK(time_of([&] {
              world.fs->reset();
              world.fs.reset();
          }) < VhostUser::conversation_time / 2);
}

TEST_CASE("a daemon cannot change the size of guest memory") {
    World world;
    VhostUserDaemon daemon{world.path, Manner::good};
    REQUIRE(world.create());
    world.activate();
    REQUIRE(world.runs(daemon));
    for (const off_t size : {off_t{0}, off_t{1} << 40}) {
        CHECK(::ftruncate(daemon.memory(), size) != 0);
        CHECK(errno == EPERM);
    }
    CHECK(world.driver.ram.memory.read<std::uint32_t>(Gpa{0})); // this process is still alive
}

TEST_CASE("a daemon that goes breaks its device, and one that comes again serves it after a reset") {
    World world;
    auto daemon = std::make_unique<VhostUserDaemon>(world.path, Manner::good);
    REQUIRE(world.create());
    world.activate();
    REQUIRE(world.runs(*daemon));
    CHECK(world.driver.notifier.broken == 0);
    SECTION("it dies") { daemon.reset(); }
    SECTION("it ends the connection") { daemon->hang_up(); }
    SECTION("it says what nobody asked for") { daemon->speak(); }
    REQUIRE(world.broken());
    CHECK(tests::busy_for(world.loop, std::chrono::milliseconds{200}) < std::chrono::milliseconds{100});

    daemon.reset();
    daemon = std::make_unique<VhostUserDaemon>(world.path, Manner::good);
    world.driver.notifier.broken = 0;
    world.fs->reset();
    world.activate();
    CHECK(world.runs(*daemon));
    CHECK(world.driver.notifier.broken == 0);
}

TEST_CASE("a failure of an earlier use does not break the device that was started again") {
    World world;
    VhostUserDaemon daemon{world.path, Manner::good};
    REQUIRE(world.create());
    world.activate();
    REQUIRE(world.runs(daemon));
    daemon.hang_up();
    world.fs->reset(); // before or after the device has noticed the end
    world.driver.notifier.broken = 0;
    world.activate();
    CHECK(world.runs(daemon, 4));
    CHECK(world.driver.notifier.broken == 0);
}

TEST_CASE("the driver sees a reset as long as the daemon has not stopped its rings") {
    World world;
    const auto manner = GENERATE(Manner::good, Manner::hangs_at_stop);
    VhostUserDaemon daemon{world.path, manner};
    REQUIRE(world.create());
    TransportCore transport{world.fs, world.driver.ram.direct, world.driver.notifier, false};
    world.driver.prepare(*world.fs, rings);
    for (unsigned index = 0; index < 2; ++index) {
        transport.set_queue(index, [&](TransportCore::QueueState& state) {
            const auto& layout = world.driver[index].layout;
            state.size = layout.size;
            state.descriptors = layout.descriptors.raw();
            state.available = layout.available.raw();
            state.used = layout.used.raw();
        });
        transport.enable_queue(index);
    }
    transport.accept(0, static_cast<std::uint32_t>(rings));
    transport.accept(1, static_cast<std::uint32_t>(rings >> 32));
    constexpr std::uint8_t up = status::acknowledge | status::driver | status::features_ok | status::driver_ok;
    transport.set_status(status::acknowledge | status::driver | status::features_ok);
    transport.set_status(up);
    REQUIRE(world.runs(daemon));

    CHECK(time_of([&] { transport.set_status(0); }) < VhostUser::conversation_time / 2);
    if (manner == Manner::hangs_at_stop) {
        CHECK(transport.status() == up);
        CHECK(transport.resetting());
    }
    CHECK(tests::run_until(world.loop, [&] { return transport.status() == 0; }));
    const bool told = world.log.text().find("may write to guest memory") != std::string::npos;
    CHECK(told == (manner == Manner::hangs_at_stop));
    CHECK(daemon.count(VhostUserDaemon::stop_ring) == (manner == Manner::good ? 2 : 1));
}

} // namespace inox::virtio_fs_test
