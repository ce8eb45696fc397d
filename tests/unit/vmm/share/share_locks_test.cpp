// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/locks.hpp"

#include <cerrno>
#include <sys/file.h>

#include "tests/catch.hpp"
#include "tests/unit/vmm/share/share_world.hpp"

namespace inox::share_locks_test {

using tests::FuseBody;
using tests::ShareWorld;

namespace {

constexpr auto root = share::Nodes::root;

/// A guest with one file, opened twice.
struct Locked : ShareWorld {
    Locked() {
        write("file", "text");
        guest->init();
        node = guest->node(root, "file");
        for (auto& handle : handles)
            handle = guest->open(node, O_RDWR).as<fuse_open_out>().fh;
    }
    [[nodiscard]] FuseBody lock(unsigned who, int type, bool whole_file) const {
        fuse_lk_in in{};
        in.fh = handles[who];
        in.owner = 1000 + who;
        in.lk = {0, 0x7fff'ffff'ffff'ffff, static_cast<std::uint32_t>(type), 0};
        in.lk_flags = whole_file ? FUSE_LK_FLOCK : 0;
        return FuseBody{}.add(in);
    }
    int set(unsigned who, int type, bool whole_file) {
        return guest->ask(FUSE_SETLK, node, lock(who, type, whole_file)).error;
    }
    /// Of another program of the host.
    [[nodiscard]] UniqueFd of_the_host() const { return UniqueFd{::open(path("file").c_str(), O_RDWR | O_CLOEXEC)}; }

    std::uint64_t node{};
    std::array<std::uint64_t, 2> handles{};
};

} // namespace

TEST_CASE("locks keep processes of the guest apart, and programs of the host") {
    Locked world;
    const bool whole_file = GENERATE(false, true);
    CHECK(world.set(0, F_RDLCK, whole_file) == 0);
    CHECK(world.set(1, F_RDLCK, whole_file) == 0);
    CHECK(world.set(1, F_WRLCK, whole_file) == EAGAIN);
    const auto other = world.of_the_host();
    struct flock lock {};
    lock.l_type = F_WRLCK;
    CHECK((whole_file ? ::flock(other.get(), LOCK_EX | LOCK_NB) : ::fcntl(other.get(), F_OFD_SETLK, &lock)) != 0);
    CHECK(world.set(0, F_UNLCK, whole_file) == 0);
    CHECK(world.set(1, F_UNLCK, whole_file) == 0);
    CHECK((whole_file ? ::flock(other.get(), LOCK_EX | LOCK_NB) : ::fcntl(other.get(), F_OFD_SETLK, &lock)) == 0);
    CHECK(world.set(0, F_RDLCK, whole_file) == EAGAIN);
}

TEST_CASE("a request that waits for a lock keeps nobody else waiting") {
    Locked world;
    auto& guest = *world.guest;
    const bool whole_file = GENERATE(false, true);
    REQUIRE(world.set(0, F_WRLCK, whole_file) == 0);
    const auto waits = guest.send(FUSE_SETLKW, world.node, world.lock(1, F_WRLCK, whole_file));
    CHECK(guest.lookup(root, "file").error == 0);
    CHECK(!guest.answers(150));

    SECTION("until the lock is given back") {
        const auto gives = guest.send(FUSE_SETLK, world.node, world.lock(0, F_UNLCK, whole_file));
        for (unsigned i = 0; i < 2; ++i) {
            const auto reply = guest.receive();
            CHECK(reply.error == 0);
            CHECK((reply.unique == waits || reply.unique == gives));
        }
        CHECK(world.set(0, F_WRLCK, whole_file) == EAGAIN);
    }
    SECTION("until the holder closes the file") {
        fuse_flush_in flush{};
        flush.fh = world.handles[0];
        flush.lock_owner = 1000;
        fuse_release_in release{};
        release.fh = world.handles[0];
        guest.send(FUSE_FLUSH, world.node, FuseBody{}.add(flush));
        guest.send(FUSE_RELEASE, world.node, FuseBody{}.add(release));
        bool had = false;
        for (unsigned i = 0; i < 3; ++i) {
            const auto reply = guest.receive();
            had = had || (reply.unique == waits && reply.error == 0);
        }
        CHECK(had);
    }
    SECTION("until it is interrupted") {
        guest.send(FUSE_INTERRUPT, 0, FuseBody{}.add(fuse_interrupt_in{waits}));
        const auto reply = guest.receive();
        CHECK(reply.unique == waits);
        CHECK(reply.error == EINTR);
    }
    SECTION("until the guest starts again") {
        CHECK(guest.init().error == 0);
        CHECK(!guest.answers(150));
        world.end();
        CHECK(world.server->folder().handles() == 0);
    }
}

TEST_CASE("a lock that a program of the host gives back is had") {
    Locked world;
    auto other = world.of_the_host();
    REQUIRE(::flock(other.get(), LOCK_EX) == 0);
    const auto waits = world.guest->send(FUSE_SETLKW, world.node, world.lock(0, F_WRLCK, true));
    CHECK(!world.guest->answers(150));
    other.reset();
    const auto reply = world.guest->receive();
    CHECK(reply.unique == waits);
    CHECK(reply.error == 0);
}

TEST_CASE("requests that wait are limited") {
    Locked world;
    REQUIRE(world.set(0, F_WRLCK, true) == 0);
    for (std::size_t i = 0; i < share::Locks::most_waiting; ++i)
        world.guest->send(FUSE_SETLKW, world.node, world.lock(1, F_WRLCK, true));
    CHECK(world.guest->ask(FUSE_SETLKW, world.node, world.lock(1, F_WRLCK, true)).error == ENOLCK);
}

TEST_CASE("who is in the way of a lock is told, and a closed file has no locks") {
    Locked world;
    auto& guest = *world.guest;
    REQUIRE(world.set(0, F_WRLCK, false) == 0);
    const auto in_the_way = [&] {
        return guest.ask(FUSE_GETLK, world.node, world.lock(1, F_WRLCK, false)).as<fuse_lk_out>().lk.type;
    };
    CHECK(in_the_way() == F_WRLCK);
    fuse_flush_in flush{};
    flush.fh = world.handles[0];
    flush.lock_owner = 1000;
    CHECK(guest.ask(FUSE_FLUSH, world.node, FuseBody{}.add(flush)).error == 0);
    CHECK(in_the_way() == F_UNLCK);
}

} // namespace inox::share_locks_test
