// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/server.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/unit/vmm/share/share_world.hpp"

namespace inox::share_server_test {

using share::Nodes;
using tests::FuseBody;
using tests::ShareWorld;

namespace {

constexpr auto root = Nodes::root;

struct Served : ShareWorld {
    explicit Served(bool read_only = false, share::Folder::Limits limits = {1000, 1000})
        : ShareWorld{read_only, limits} {
        init = guest->init();
    }
    tests::FuseReply init;
};

std::uint64_t handle_of(const tests::FuseReply& reply) { return reply.as<fuse_open_out>().fh; }

} // namespace

TEST_CASE("a guest that mounts the folder learns what the server can do") {
    Served world;
    const auto out = world.init.as<fuse_init_out>();
    CHECK(world.init.error == 0);
    CHECK(out.major == 7);
    CHECK(out.max_write == share::max_data);
    CHECK(out.max_pages == share::max_data / 4096);
    for (const int flag : {FUSE_POSIX_LOCKS, FUSE_FLOCK_LOCKS, FUSE_DO_READDIRPLUS, FUSE_ATOMIC_O_TRUNC})
        CHECK((out.flags & static_cast<unsigned>(flag)) != 0);
    CHECK((out.flags & FUSE_WRITEBACK_CACHE) == 0);
    CHECK(world.end());
}

TEST_CASE("files are made, written, read, and told with their owners") {
    Served world;
    auto& guest = *world.guest;
    const auto made = guest.create(root, "file", O_RDWR, 0640);
    REQUIRE(made.error == 0);
    const auto entry = made.as<fuse_entry_out>();
    const auto handle = made.as<fuse_open_out>(sizeof entry).fh;
    CHECK(entry.attr.uid == ::geteuid());
    CHECK((entry.attr.mode & 07777) == 0640);
    const std::string data(share::max_data, 'x');
    CHECK(guest.write(entry.nodeid, handle, 1, data).as<fuse_write_out>().size == data.size());
    CHECK(world.text("file") == '\0' + data);
    CHECK(guest.read(entry.nodeid, handle, 1, share::max_data).body == data);
    CHECK(guest.read(entry.nodeid, handle, 5, 8).body == "xxxxxxxx");
    CHECK(guest.read(entry.nodeid, handle, 1 << 30, 8).body.empty());

    world.write("of-the-host", "from the host");
    const auto node = guest.node(root, "of-the-host");
    const auto opened = guest.open(node, O_RDONLY);
    CHECK(guest.read(node, handle_of(opened), 0, 100).body == "from the host");
    CHECK(guest.write(node, handle_of(opened), 0, "no").error == EBADF);
    CHECK(guest.open(node, O_WRONLY | O_TRUNC).error == 0);
    CHECK(world.text("of-the-host").empty());
    CHECK(guest.create(root, "file", O_RDWR | O_EXCL).error == EEXIST);
    CHECK(guest.create(root, "file", O_RDWR | O_TRUNC).error == 0);
    CHECK(world.text("file").empty());
}

TEST_CASE("a file that two names have is one node") {
    Served world;
    auto& guest = *world.guest;
    world.write("a", "");
    const auto node = guest.node(root, "a");
    const auto linked = guest.ask(FUSE_LINK, root, FuseBody{}.add(fuse_link_in{node}).name("b"));
    CHECK(linked.error == 0);
    CHECK(linked.as<fuse_entry_out>().nodeid == node);
    CHECK(linked.as<fuse_entry_out>().attr.nlink == 2);
    CHECK(guest.node(root, "b") == node);
}

TEST_CASE("symbolic links and special files are told and not followed or opened") {
    Served world;
    auto& guest = *world.guest;
    const auto link = guest.ask(FUSE_SYMLINK, root, FuseBody{}.name("link").name("../secret"));
    REQUIRE(link.error == 0);
    const auto node = link.as<fuse_entry_out>().nodeid;
    CHECK(S_ISLNK(link.as<fuse_entry_out>().attr.mode));
    CHECK(guest.ask(FUSE_READLINK, node).body == "../secret");
    CHECK(guest.open(node, O_RDONLY).error == ELOOP);
    CHECK(guest.create(root, "link", O_WRONLY).error == ELOOP);
    // A hard link to the symbolic link, not to what it leads to.
    const auto second = guest.ask(FUSE_LINK, root, FuseBody{}.add(fuse_link_in{node}).name("second"));
    CHECK(second.as<fuse_entry_out>().nodeid == node);

    fuse_mknod_in fifo{};
    fifo.mode = S_IFIFO | 0600;
    const auto pipe = guest.ask(FUSE_MKNOD, root, FuseBody{}.add(fifo).name("fifo"));
    REQUIRE(pipe.error == 0);
    CHECK(S_ISFIFO(pipe.as<fuse_entry_out>().attr.mode));
    CHECK(guest.open(pipe.as<fuse_entry_out>().nodeid, O_RDONLY).error == ENXIO);
    CHECK(guest.create(root, "fifo", O_WRONLY).error == ENXIO);
    CHECK(world.text("../secret") == "not for the guest");
}

TEST_CASE("folders are listed in pieces, with and without what a look-up tells") {
    Served world;
    auto& guest = *world.guest;
    constexpr unsigned count = 300;
    for (unsigned i = 0; i < count; ++i)
        world.write("file-" + std::to_string(i), "");
    const bool plus = GENERATE(false, true);
    auto names = guest.list(root, GENERATE(400U, 4096U, 1U << 20), plus);
    std::ranges::sort(names);
    CHECK(names.size() == count + 2);
    CHECK(std::ranges::adjacent_find(names) == names.end());
    CHECK(std::ranges::binary_search(names, "file-299"));
    world.end();
    CHECK(world.server->folder().handles() == 0);
    CHECK(world.server->folder().nodes() == (plus ? count + 1 : 1));
}

TEST_CASE("a tree can be deep") {
    Served world;
    auto& guest = *world.guest;
    auto node = root;
    for (unsigned depth = 0; depth < 400; ++depth) {
        const auto made =
            guest.ask(FUSE_MKDIR, node, FuseBody{}.add(fuse_mkdir_in{0755, 0}).name(std::string(30, 'd')));
        REQUIRE(made.error == 0);
        node = made.as<fuse_entry_out>().nodeid;
    }
    CHECK(guest.create(node, "leaf", O_RDWR).error == 0);
}

TEST_CASE("renames replace, refuse to, and exchange") {
    Served world;
    auto& guest = *world.guest;
    world.write("a", "A");
    world.write("b", "B");
    std::filesystem::create_directory(world.path("folder"));
    const auto folder = guest.node(root, "folder");
    const auto rename = [&](std::uint32_t flags, std::uint64_t to, const char* from, const char* name) {
        return guest.ask(FUSE_RENAME2, root, FuseBody{}.add(fuse_rename2_in{to, flags, 0}).name(from).name(name)).error;
    };
    CHECK(rename(RENAME_NOREPLACE, root, "a", "b") == EEXIST);
    CHECK(rename(RENAME_EXCHANGE, root, "a", "b") == 0);
    CHECK(world.text("a") == "B");
    CHECK(rename(RENAME_WHITEOUT, root, "a", "b") == EINVAL);
    CHECK(rename(0, folder, "a", "c") == 0);
    CHECK(world.text("folder/c") == "B");
    CHECK(guest.ask(FUSE_UNLINK, folder, FuseBody{}.name("c")).error == 0);
    CHECK(guest.ask(FUSE_UNLINK, root, FuseBody{}.name("folder")).error == EISDIR);
    CHECK(guest.ask(FUSE_RMDIR, root, FuseBody{}.name("folder")).error == 0);
    CHECK(guest.lookup(root, "folder").error == ENOENT);
}

TEST_CASE("attributes are changed") {
    Served world;
    auto& guest = *world.guest;
    world.write("file", "0123456789");
    const auto node = guest.node(root, "file");
    fuse_setattr_in in{};
    in.valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME;
    in.mode = 0600;
    in.size = 4;
    in.mtime = 1'000'000'000;
    in.mtimensec = 5;
    const auto out = guest.ask(FUSE_SETATTR, node, FuseBody{}.add(in)).as<fuse_attr_out>();
    CHECK((out.attr.mode & 07777) == 0600);
    CHECK(out.attr.size == 4);
    CHECK(out.attr.mtime == 1'000'000'000);
    CHECK(out.attr.mtimensec == 5);
    CHECK(world.text("file") == "0123");
    CHECK(guest.ask(FUSE_STATFS, node).as<fuse_statfs_out>().st.namelen == 255);
    CHECK(guest.ask(FUSE_GETATTR, node, FuseBody{}.add(fuse_getattr_in{})).as<fuse_attr_out>().attr.size == 4);
}

TEST_CASE("extended attributes are set, listed, read and removed") {
    Served world;
    auto& guest = *world.guest;
    world.write("file", "");
    if (::setxattr(world.path("file").c_str(), "user.probe", "1", 1, 0) != 0) {
        WARN("no extended attributes in /tmp: " << std::strerror(errno));
        return;
    }
    const auto node = guest.node(root, "file");
    const auto set = FuseBody{}.add(std::array<std::uint32_t, 2>{5, 0}).name("user.name").raw("value");
    CHECK(guest.ask(FUSE_SETXATTR, node, set).error == 0);
    const auto get = [&](std::uint32_t size) {
        return guest.ask(FUSE_GETXATTR, node, FuseBody{}.add(fuse_getxattr_in{size, 0}).name("user.name"));
    };
    CHECK(get(0).as<fuse_getxattr_out>().size == 5);
    CHECK(get(100).body == "value");
    CHECK(get(2).error == ERANGE);
    const auto list = guest.ask(FUSE_LISTXATTR, node, FuseBody{}.add(fuse_getxattr_in{4096, 0})).body;
    CHECK(list.find("user.name") != std::string::npos);
    CHECK(guest.ask(FUSE_REMOVEXATTR, node, FuseBody{}.name("user.name")).error == 0);
    CHECK(get(100).error == ENODATA);
}

TEST_CASE("space is reserved, holes are found, ranges are copied") {
    Served world;
    auto& guest = *world.guest;
    const auto made = guest.create(root, "a", O_RDWR);
    const auto node = made.as<fuse_entry_out>().nodeid;
    const auto handle = made.as<fuse_open_out>(sizeof(fuse_entry_out)).fh;
    guest.write(node, handle, 0, "copied");
    fuse_copy_file_range_in copy{};
    copy.fh_in = copy.fh_out = handle;
    copy.nodeid_out = node;
    copy.off_out = 100;
    copy.len = 6;
    const auto copied = guest.ask(FUSE_COPY_FILE_RANGE, node, FuseBody{}.add(copy));
    CHECK((copied.error == 0 || copied.error == EXDEV || copied.error == EOPNOTSUPP));
    if (copied.error == 0)
        CHECK(guest.read(node, handle, 100, 6).body == "copied");
    fuse_lseek_in seek{};
    seek.fh = handle;
    seek.whence = SEEK_DATA;
    CHECK(guest.ask(FUSE_LSEEK, node, FuseBody{}.add(seek)).as<fuse_lseek_out>().offset == 0);
    fuse_fallocate_in space{};
    space.fh = handle;
    space.length = 4096;
    const auto reserved = guest.ask(FUSE_FALLOCATE, node, FuseBody{}.add(space));
    CHECK((reserved.error == 0 || reserved.error == EOPNOTSUPP));
    CHECK(guest.ask(FUSE_FSYNC, node, FuseBody{}.add(fuse_fsync_in{handle, 0, 0})).error == 0);
}

TEST_CASE("a folder that is shared for reading is not changed") {
    Served world{true};
    auto& guest = *world.guest;
    world.write("file", "text");
    const auto node = guest.node(root, "file");
    const auto opened = guest.open(node, O_RDONLY);
    CHECK(guest.read(node, handle_of(opened), 0, 10).body == "text");
    CHECK(guest.open(node, O_RDWR).error == EROFS);
    CHECK(guest.open(node, O_RDONLY | O_TRUNC).error == EROFS);
    CHECK(guest.create(root, "new", O_RDWR).error == EROFS);
    CHECK(guest.ask(FUSE_MKDIR, root, FuseBody{}.add(fuse_mkdir_in{}).name("new")).error == EROFS);
    CHECK(guest.ask(FUSE_MKNOD, root, FuseBody{}.add(fuse_mknod_in{}).name("new")).error == EROFS);
    CHECK(guest.ask(FUSE_SYMLINK, root, FuseBody{}.name("new").name("x")).error == EROFS);
    CHECK(guest.ask(FUSE_LINK, root, FuseBody{}.add(fuse_link_in{node}).name("new")).error == EROFS);
    CHECK(guest.ask(FUSE_UNLINK, root, FuseBody{}.name("file")).error == EROFS);
    CHECK(guest.ask(FUSE_RENAME, root, FuseBody{}.add(fuse_rename_in{root}).name("file").name("b")).error == EROFS);
    fuse_setattr_in in{};
    in.valid = FATTR_MODE;
    CHECK(guest.ask(FUSE_SETATTR, node, FuseBody{}.add(in)).error == EROFS);
    const auto set = FuseBody{}.add(std::array<std::uint32_t, 2>{1, 0}).name("user.a").raw("x");
    CHECK(guest.ask(FUSE_SETXATTR, node, set).error == EROFS);
    CHECK(guest.ask(FUSE_REMOVEXATTR, node, FuseBody{}.name("user.a")).error == EROFS);
    CHECK(world.text("file") == "text");
}

TEST_CASE("a server of root makes files as the guest's user, and one of another user as itself") {
    Served world;
    auto& guest = *world.guest;
    std::filesystem::permissions(world.shared(), std::filesystem::perms::all);
    guest.user = 4321;
    guest.group = 8765;
    const auto made = guest.create(root, "file", O_RDWR).as<fuse_entry_out>();
    const bool is_root = ::geteuid() == 0;
    CHECK(made.attr.uid == (is_root ? 4321 : ::geteuid()));
    CHECK(made.attr.gid == (is_root ? 8765 : ::getegid()));
    const auto folder = guest.ask(FUSE_MKDIR, root, FuseBody{}.add(fuse_mkdir_in{0755, 0}).name("folder"));
    CHECK(folder.as<fuse_entry_out>().attr.uid == made.attr.uid);
    guest.user = guest.group = 0;
    CHECK(guest.create(root, "second", O_RDWR).as<fuse_entry_out>().attr.uid == ::geteuid());
}

TEST_CASE("a guest that unmounts, or starts again, leaves nothing behind") {
    Served world;
    auto& guest = *world.guest;
    world.write("file", "");
    const auto node = guest.node(root, "file");
    guest.open(node, O_RDONLY);
    SECTION("it says so") {
        CHECK(guest.ask(FUSE_DESTROY, 0).error == 0);
        CHECK(guest.lookup(root, "file").error == EIO);
    }
    SECTION("it does not") {}
    CHECK(guest.init().error == 0);
    CHECK(guest.open(node, O_RDONLY).error == ESTALE);
    CHECK(guest.node(root, "file") > node); // numbers are not used twice
    world.end();
    CHECK(world.server->folder().nodes() == 2);
    CHECK(world.server->folder().handles() == 0);
}

TEST_CASE("nodes and open files are limited, and what is given back can be used again") {
    Served world{false, {10, 4}};
    auto& guest = *world.guest;
    for (unsigned i = 0; i < 20; ++i)
        world.write("file-" + std::to_string(i), "");
    std::vector<std::uint64_t> nodes;
    for (unsigned i = 0; i < 10; ++i)
        nodes.push_back(guest.node(root, "file-" + std::to_string(i)));
    CHECK(guest.lookup(root, "file-10").error == ENFILE);
    CHECK(guest.node(root, "file-0") == nodes[0]);
    CHECK(guest.list(root, 4096, true).size() == 22); // without what there is no room for
    for (unsigned i = 0; i < 4; ++i)
        CHECK(guest.open(nodes[0], O_RDONLY).error == 0);
    CHECK(guest.open(nodes[0], O_RDONLY).error == ENFILE);
    CHECK(guest.ask(FUSE_OPENDIR, root, FuseBody{}.add(fuse_open_in{})).error == ENFILE);
    guest.send(FUSE_FORGET, nodes[5], FuseBody{}.add(fuse_forget_in{100}));
    CHECK(guest.lookup(root, "file-10").error == 0);
}

} // namespace inox::share_server_test
