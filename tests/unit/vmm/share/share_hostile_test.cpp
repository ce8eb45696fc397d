// SPDX-License-Identifier: Apache-2.0
// Guests that do not follow the protocol, and guests that want out of the folder.
#include <cerrno>
#include <random>
#include <sys/stat.h>

#include "tests/catch.hpp"
#include "tests/support/eventually.hpp"
#include "tests/unit/vmm/share/share_world.hpp"

namespace inox::share_hostile_test {

using share::Nodes;
using tests::FuseBody;
using tests::ShareWorld;

namespace {

constexpr auto root = Nodes::root;

/// It still serves.
bool well(ShareWorld& world) { return world.guest->lookup(root, "inside").error == 0; }

struct Served : ShareWorld {
    Served() {
        write("inside", "text");
        guest->init();
    }
};

} // namespace

TEST_CASE("no name leads out of the folder") {
    Served world;
    auto& guest = *world.guest;
    std::filesystem::create_directory(world.path("folder"));
    const auto folder = guest.node(root, "folder");
    for (const std::string name : {"", ".", "..", "/", "../secret", "/etc/passwd", "folder/x", "./inside", "a/", "../"})
        for (const auto parent : {root, folder}) {
            CAPTURE(name);
            CHECK(guest.lookup(parent, name).error == EINVAL);
            CHECK(guest.create(parent, name, O_RDWR).error == EINVAL);
            CHECK(guest.ask(FUSE_MKDIR, parent, FuseBody{}.add(fuse_mkdir_in{0755, 0}).name(name)).error == EINVAL);
            CHECK(guest.ask(FUSE_MKNOD, parent, FuseBody{}.add(fuse_mknod_in{}).name(name)).error == EINVAL);
            CHECK(guest.ask(FUSE_SYMLINK, parent, FuseBody{}.name(name).name("x")).error == EINVAL);
            CHECK(guest.ask(FUSE_UNLINK, parent, FuseBody{}.name(name)).error == EINVAL);
            CHECK(guest.ask(FUSE_RMDIR, parent, FuseBody{}.name(name)).error == EINVAL);
            const auto inside = guest.node(root, "inside");
            CHECK(guest.ask(FUSE_LINK, parent, FuseBody{}.add(fuse_link_in{inside}).name(name)).error == EINVAL);
            const auto rename = [&](const std::string& from, const std::string& to) {
                return guest.ask(FUSE_RENAME, root, FuseBody{}.add(fuse_rename_in{parent}).name(from).name(to)).error;
            };
            CHECK(rename("inside", name) == EINVAL);
            CHECK(rename(name, "new") == EINVAL);
        }
    CHECK(guest.lookup(root, std::string(256, 'n')).error == ENAMETOOLONG);
    CHECK(guest.lookup(root, std::string(100'000, 'n')).error == ENAMETOOLONG);
    CHECK(guest.lookup(root, std::string(255, 'n')).error == ENOENT);
    CHECK(world.text("../secret") == "not for the guest");
    CHECK(well(world));
}

TEST_CASE("no link leads out of the folder") {
    Served world;
    auto& guest = *world.guest;
    std::filesystem::create_directory(world.top + "/beside");
    std::filesystem::create_symlink("../secret", world.path("up"));
    std::filesystem::create_symlink("/etc", world.path("absolute"));
    std::filesystem::create_symlink("../beside", world.path("folder"));
    for (const char* name : {"up", "absolute", "folder"}) {
        const auto node = guest.node(root, name);
        REQUIRE(node != 0);
        CHECK(guest.open(node, O_RDONLY).error == ELOOP);
        CHECK(guest.ask(FUSE_OPENDIR, node, FuseBody{}.add(fuse_open_in{})).error == ENOTDIR);
        CHECK(guest.lookup(node, "passwd").error == ENOTDIR);
        CHECK(guest.create(node, "new", O_RDWR).error == ENOTDIR);
        fuse_setattr_in in{};
        in.valid = FATTR_SIZE;
        CHECK(guest.ask(FUSE_SETATTR, node, FuseBody{}.add(in)).error == EINVAL);
        in.valid = FATTR_MODE;
        CHECK(guest.ask(FUSE_SETATTR, node, FuseBody{}.add(in)).error == EOPNOTSUPP);
    }
    CHECK(world.text("../secret") == "not for the guest");
    CHECK(std::filesystem::is_empty(world.top + "/beside"));
}

TEST_CASE("numbers that name nothing are refused") {
    Served world;
    auto& guest = *world.guest;
    for (const std::uint64_t node : {0ULL, 2'000'000ULL, ~0ULL, 0x7fff'ffff'f000ULL}) {
        CHECK(guest.lookup(node, "inside").error == ESTALE);
        CHECK(guest.open(node, O_RDONLY).error == ESTALE);
        CHECK(guest.ask(FUSE_OPENDIR, node, FuseBody{}.add(fuse_open_in{})).error == ESTALE);
        CHECK(guest.ask(FUSE_GETATTR, node, FuseBody{}.add(fuse_getattr_in{})).error == ESTALE);
        CHECK(guest.ask(FUSE_READLINK, node).error == ESTALE);
        CHECK(guest.ask(FUSE_STATFS, node).error == ESTALE);
        CHECK(guest.ask(FUSE_LINK, root, FuseBody{}.add(fuse_link_in{node}).name("new")).error == ESTALE);
        CHECK(guest.ask(FUSE_RENAME, root, FuseBody{}.add(fuse_rename_in{node}).name("inside").name("b")).error ==
              ESTALE);
        guest.send(FUSE_FORGET, node, FuseBody{}.add(fuse_forget_in{~0ULL}));
        CHECK(guest.read(root, node, 0, 100).error == EBADF);
        CHECK(guest.write(root, node, 0, "x").error == EBADF);
        fuse_read_in list{};
        list.fh = node;
        list.size = 4096;
        CHECK(guest.ask(FUSE_READDIR, root, FuseBody{}.add(list)).error == EBADF);
        CHECK(guest.ask(FUSE_READDIRPLUS, root, FuseBody{}.add(list)).error == EBADF);
        CHECK(guest.ask(FUSE_FLUSH, root, FuseBody{}.add(fuse_flush_in{node, 0, 0, 0})).error == EBADF);
        fuse_lk_in lock{};
        lock.fh = node;
        lock.lk_flags = FUSE_LK_FLOCK;
        CHECK(guest.ask(FUSE_SETLKW, root, FuseBody{}.add(lock)).error == EBADF);
    }
    guest.send(FUSE_FORGET, root, FuseBody{}.add(fuse_forget_in{~0ULL}));
    CHECK(well(world));
}

TEST_CASE("forgetting more than there is frees the node once") {
    Served world;
    auto& guest = *world.guest;
    const auto node = guest.node(root, "inside");
    FuseBody many;
    many.add(fuse_batch_forget_in{3, 0});
    for (unsigned i = 0; i < 3; ++i)
        many.add(fuse_forget_one{node, ~0ULL});
    guest.send(FUSE_BATCH_FORGET, 0, many);
    CHECK(guest.open(node, O_RDONLY).error == ESTALE);
    CHECK(well(world));
}

TEST_CASE("messages of another shape than their operation's are refused") {
    Served world;
    auto& guest = *world.guest;
    const auto inside = guest.node(root, "inside");
    const auto refused = [&](std::uint32_t opcode, const FuseBody& body) {
        return guest.ask(opcode, inside, body).error;
    };
    CHECK(refused(FUSE_LOOKUP, {}) == EINVAL);
    CHECK(refused(FUSE_LOOKUP, FuseBody{}.raw("no end")) == EINVAL);
    CHECK(refused(FUSE_LOOKUP, FuseBody{}.name("two").name("names")) == EINVAL);
    CHECK(refused(FUSE_RENAME, FuseBody{}.add(fuse_rename_in{root}).name("one")) == EINVAL);
    CHECK(refused(FUSE_SYMLINK, FuseBody{}.name("one").raw("no end")) == EINVAL);
    fuse_write_in write{};
    write.size = 1'000'000;
    CHECK(refused(FUSE_WRITE, FuseBody{}.add(write).raw("less")) == EINVAL);
    CHECK(refused(FUSE_SETXATTR, FuseBody{}.add(std::array<std::uint32_t, 2>{~0U, 0}).name("user.a").raw("x")) ==
          EINVAL);
    CHECK(refused(FUSE_READ, FuseBody{}.raw("short")) == EINVAL);
    CHECK(refused(FUSE_IOCTL, FuseBody{}.add(fuse_ioctl_in{})) == ENOSYS);
    CHECK(refused(FUSE_NOTIFY_REPLY, {}) == ENOSYS);
    CHECK(refused(4096, {}) == ENOSYS);
    CHECK(refused(~0U, {}) == ENOSYS);
    guest.send(FUSE_BATCH_FORGET, 0, FuseBody{}.add(fuse_batch_forget_in{~0U, 0}));
    guest.send(FUSE_INTERRUPT, 0, FuseBody{}.add(fuse_interrupt_in{12345}));
    CHECK(well(world));
}

TEST_CASE("a guest that speaks another protocol is refused, one that speaks none before its first word, too") {
    ShareWorld world;
    auto& guest = *world.guest;
    CHECK(guest.lookup(root, "x").error == EIO);
    CHECK(guest.init(8).error == EPROTO);
    fuse_init_in in{};
    in.major = 8;
    CHECK(guest.ask(FUSE_INIT, 0, FuseBody{}.add(in)).error == EPROTO);
    in.major = 7;
    in.minor = 31;
    in.flags = FUSE_INIT_EXT; // says that more flags follow, and ends
    const auto old = std::as_bytes(std::span{&in, 1}).first(16);
    FuseBody cut;
    cut.all.assign(old.begin(), old.end());
    CHECK(guest.ask(FUSE_INIT, 0, cut).error == EINVAL);
    CHECK(guest.init().error == 0);
}

TEST_CASE("what is no message at all ends the server, and not its host") {
    Served world;
    const std::uint32_t length = GENERATE(0U, 39U, 0xffff'ffffU, 2U << 20);
    world.guest->send_raw(FuseBody{}.add(length).raw(std::string(60, 'x')).all);
    CHECK(world.guest->receive().error == -1);
    CHECK(!world.end());
}

TEST_CASE("random bytes in every operation do not stop the server") {
    Served world;
    auto& guest = *world.guest;
    std::mt19937 random{GENERATE(1U, 2U, 3U)};
    for (unsigned round = 0; round < 3000; ++round) {
        const auto opcode = 1 + random() % 54;
        if (opcode == FUSE_DESTROY || opcode == FUSE_INIT || opcode == FUSE_SETLKW)
            continue;
        FuseBody body;
        for (auto words = random() % 16; words != 0; --words)
            body.add(random() % 3 == 0 ? static_cast<std::uint32_t>(random())
                                       : static_cast<std::uint32_t>(random() % 4));
        if (random() % 2 == 0)
            body.name("n");
        guest.send(static_cast<std::uint32_t>(opcode), random() % 4, body);
        while (guest.answers(0))
            guest.receive();
    }
    const auto last = guest.send(FUSE_STATFS, root); // whatever it made of that, it answers to the end
    auto reply = guest.receive();
    while (reply.error != -1 && reply.unique != last)
        reply = guest.receive();
    CHECK(reply.error == 0);
    CHECK(world.end());
    CHECK(world.text("../secret") == "not for the guest");
}

TEST_CASE("a race of renames on the host never leads out") {
    Served world;
    auto& guest = *world.guest;
    std::filesystem::create_directory(world.path("real"));
    world.write("real/file", "inside");
    std::filesystem::create_symlink("..", world.path("trap"));
    std::filesystem::create_directory(world.top + "/shared/../real");
    std::ofstream{world.top + "/real/file"} << "outside";
    // "spot" is the folder at one moment and a link to the outside at the next.
    std::filesystem::rename(world.path("real"), world.path("spot"));
    std::jthread swaps{[&](const std::stop_token& stop) {
        while (!stop.stop_requested())
            ::renameat2(AT_FDCWD, world.path("spot").c_str(), AT_FDCWD, world.path("trap").c_str(), RENAME_EXCHANGE);
    }};
    unsigned reached = 0;
    for (unsigned round = 0; round < 2000; ++round) {
        const auto spot = guest.node(root, "spot");
        const auto found = guest.lookup(spot, "file");
        if (found.error != 0) {
            CHECK(found.error == ENOTDIR);
            continue;
        }
        const auto node = found.as<fuse_entry_out>().nodeid;
        const auto opened = guest.open(node, O_RDONLY).as<fuse_open_out>();
        CHECK(guest.read(node, opened.fh, 0, 10).body == "inside");
        fuse_release_in release{};
        release.fh = opened.fh;
        guest.ask(FUSE_RELEASE, node, FuseBody{}.add(release));
        reached += 1;
    }
    CHECK(reached != 0);
    CHECK(well(world));
}

} // namespace inox::share_hostile_test
