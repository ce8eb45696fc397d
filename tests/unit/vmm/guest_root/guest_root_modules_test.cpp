// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/module_tree.hpp"

#include <filesystem>
#include <fstream>

#include "tests/catch.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/process.hpp"

namespace inox::guest_root_modules_test {

using namespace guest_root;
using Names = std::vector<std::string>;

namespace {

/// A folder of modules, made up.
struct Tree {
    fakes::TemporaryFolder top{};
    std::string folder{top.path};

    void write(const std::string& path, const std::string& text) const {
        const auto file = std::filesystem::path{folder} / path;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream{file, std::ios::binary} << text;
    }
    /// A module as far as our reader looks.
    void module(const std::string& path, const std::string& magic, const std::string& depends = {}) const {
        std::string text = "\x7f"
                           "ELF";
        for (const auto& one : {std::string{"license=GPL"}, "depends=" + depends, "vermagic=" + magic})
            text.append(1, '\0').append(one);
        write(path, text.append(1, '\0'));
    }
    [[nodiscard]] ModuleTree open() const {
        auto tree = ModuleTree::open(folder);
        REQUIRE(tree);
        return std::move(*tree);
    }
    [[nodiscard]] Names resolve(std::initializer_list<ModuleTree::Wanted> wanted) const {
        auto paths = open().resolve(std::vector<ModuleTree::Wanted>{wanted});
        REQUIRE(paths);
        return *paths;
    }
};

Names names(const std::vector<ModuleTree::Module>& modules) {
    Names out;
    for (const auto& one : modules)
        out.push_back(one.name);
    return out;
}

} // namespace

TEST_CASE("a module's name is its file's, and the two dashes are one") {
    CHECK(module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz") == "virtio_rng");
    CHECK(module_name("a.ko") == "a");
    CHECK(module_name("x/b.ko.zst") == "b");
    CHECK(module_name("c.ko.gz") == "c");
    CHECK(module_name("fs/ext4/ext4.o") == "ext4");
}

TEST_CASE("what a module needs comes before it, once, with what softdep and aliases add") {
    const Tree tree;
    tree.write("modules.dep", "kernel/ext4.ko: kernel/jbd2.ko kernel/crc16.ko\nkernel/jbd2.ko: kernel/crc16.ko\n"
                              "kernel/crc16.ko:\nkernel/crc32c_generic.ko:\nkernel/crc32c-intel.ko:\n"
                              "kernel/virtio_blk.ko: kernel/virtio.ko\nkernel/virtio.ko:\n");
    tree.write("modules.softdep", "# none\nsoftdep ext4 pre: crc32c post: virtio\nsoftdep none pre: virtio\n");
    tree.write("modules.alias", "alias crc32c crc32c_generic\nalias crc32c crc32c_intel\nalias pci:v* virtio\n");
    CHECK(tree.resolve({{"virtio-blk"}, {"ext4"}, {"jbd2"}, {"absent"}}) ==
          Names{"kernel/virtio.ko", "kernel/virtio_blk.ko", "kernel/crc16.ko", "kernel/jbd2.ko",
                "kernel/crc32c_generic.ko", "kernel/crc32c-intel.ko", "kernel/ext4.ko"});
}

TEST_CASE("a circle ends, and paths that leave the folder are not modules") {
    const Tree tree;
    tree.write("modules.dep", "a.ko: b.ko a.ko\nb.ko: c.ko\nc.ko: a.ko\n/etc/passwd.ko: a.ko\n../x.ko: a.ko\n"
                              "y/../../x2.ko:\nnonsense\n: a.ko\n");
    CHECK(tree.resolve({{"a"}, {"passwd"}, {"x"}, {"x2"}}) == Names{"c.ko", "b.ko", "a.ko"});
}

TEST_CASE("a list that makes one module need hundreds is refused") {
    const Tree tree;
    std::string text;
    for (int i = 0; i < 1000; ++i)
        text += "m" + std::to_string(i) + ".ko: m" + std::to_string(i + 1) + ".ko\n";
    tree.write("modules.dep", text);
    const ModuleTree::Wanted first{"m0"};
    CHECK(tree.open().resolve({&first, 1}).error().code == Errc::modules_missing);
}

TEST_CASE("what a kernel has built in is not looked for; what it lacks is told before it starts") {
    const Tree tree;
    tree.write("modules.dep", "a.ko:\n");
    tree.write("modules.builtin", "kernel/fs/ext4/ext4.ko\n");
    tree.module("a.ko", "6.1.0 SMP");
    const auto load = [&](ModuleTree::Wanted wanted) { return tree.open().load({&wanted, 1}, "6.1.0"); };
    CHECK(load({"ext4", true})->empty());
    CHECK(load({"xfs", false})->empty());
    CHECK(names(*load({"a", true})) == Names{"a"});
    const auto missing = load({"xfs", true});
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == Errc::modules_missing);
    CHECK(missing.error().what.find("no xfs") != std::string::npos);
}

TEST_CASE("a module for another kernel is refused by both releases") {
    const Tree tree;
    tree.write("modules.dep", "a.ko:\n");
    tree.module("a.ko", "6.12.1-x SMP preempt");
    const ModuleTree::Wanted wanted{"a"};
    const auto other = tree.open().load({&wanted, 1}, "6.1.0");
    REQUIRE_FALSE(other);
    CHECK(other.error().what.find("is for the kernel 6.12.1-x, but this one is 6.1.0") != std::string::npos);
    CHECK(tree.open().load({&wanted, 1}, "6.12.1-x"));
    CHECK(tree.open().load({&wanted, 1}, ""));
}

TEST_CASE("in a build tree modules themselves say what they need") {
    const Tree tree;
    tree.write("modules.order", "fs/ext4/ext4.o\nkernel/fs/jbd2/jbd2.ko\n");
    tree.module("fs/ext4/ext4.ko", "6.12.0 SMP", "jbd2,none");
    tree.module("fs/jbd2/jbd2.ko", "6.12.0 SMP");
    const ModuleTree::Wanted wanted{"ext4", true};
    CHECK(names(*tree.open().load({&wanted, 1}, "6.12.0")) == Names{"jbd2", "ext4"});
}

TEST_CASE("compressed modules are unpacked, and truncated ones are refused by name") {
    for (const auto& [tool, ending] : {std::pair{"gzip", "gz"}, {"xz", "xz"}, {"zstd", "zst"}}) {
        INFO(tool);
        const Tree tree;
        const auto path = std::string{"a.ko."} + ending;
        tree.module("plain", "6.1.0 " + std::string(100'000, 'x'));
        const auto packed = tests::run_process({"/usr/bin/env", tool, "-c", tree.folder + "/plain"});
        REQUIRE(packed.code == 0);
        tree.write("modules.dep", path + ":\n");
        tree.write(path, packed.out);
        const ModuleTree::Wanted wanted{"a"};
        const auto loaded = tree.open().load({&wanted, 1}, "6.1.0");
        REQUIRE(loaded);
        CHECK(loaded->front().bytes.size() > 100'000);
        for (const auto size : {packed.out.size() / 2, packed.out.size() - 9}) {
            tree.write(path, packed.out.substr(0, size));
            const auto cut = tree.open().load({&wanted, 1}, "6.1.0");
            REQUIRE_FALSE(cut);
            CHECK(cut.error().code == Errc::modules_missing);
            CHECK(cut.error().what.find(path) != std::string::npos);
        }
    }
}

TEST_CASE("a folder without lists is no folder of modules") {
    const Tree tree;
    CHECK_FALSE(ModuleTree::is_one(tree.folder));
    CHECK(ModuleTree::open(tree.folder).error().code == Errc::modules_missing);
}

} // namespace inox::guest_root_modules_test
