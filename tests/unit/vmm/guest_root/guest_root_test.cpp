// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/guest_root.hpp"

#include <filesystem>
#include <fstream>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/boot_images.hpp"
#include "tests/support/process.hpp"
#include "vmm/guest_root/kernel_release.hpp"
#include "vmm/guest_root/unpack.hpp"
#include "vmm/share/process.hpp"

namespace inox::guest_root_test {

using namespace guest_root;
using Type = RootKind::Type;

namespace {

struct Folder {
    fakes::TemporaryFolder top{};
    [[nodiscard]] std::string path(const std::string& name) const { return top.path + "/" + name; }
    std::string write(const std::string& name, std::string_view text, std::size_t at = 0) const {
        const auto file = path(name);
        std::filesystem::create_directories(std::filesystem::path{file}.parent_path());
        std::ofstream out{file, std::ios::binary};
        out.seekp(static_cast<std::streamoff>(at));
        out << text;
        return file;
    }
    /// A tar archive of `made`, which a shell makes here.
    [[nodiscard]] std::string tar(const std::string& script, const char* name = "a.tar") const {
        const auto ran = tests::run_process(
            {"/bin/sh", "-ec", "cd '" + top.path + "'; mkdir t; cd t; " + script + "; tar -cf ../" + name + " ."});
        INFO(ran.err);
        REQUIRE(ran.code == 0);
        return path(name);
    }
};

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; // NOLINT: bytes are bytes
}

std::string listed(std::span<const std::byte> archive, const Folder& folder) {
    const auto path = folder.write("made.cpio", text_of(archive));
    const auto ran = tests::run_process({"/usr/bin/env", "busybox", "cpio", "-t", "-v", "-F", path});
    CHECK(ran.code == 0);
    return ran.out;
}

std::string bzimage(std::string_view version) {
    std::string text(0x400, '\0');
    text.replace(0x202, 4, "HdrS");
    text[0x20e] = 0x10; // from 0x200
    return text.replace(0x210 + 0x200 - 0x200, version.size(), version);
}

} // namespace

TEST_CASE("a root is what its first blocks say") {
    const Folder folder;
    CHECK(look_at_root(folder.top.path)->type == Type::folder);
    const auto kind = [&](std::string_view mark, std::size_t at) {
        const auto found = look_at_root(folder.write("image", mark, at));
        return found ? found->file_system + " " + std::to_string(found->partition) : found.error().what;
    };
    CHECK(kind("\x53\xef", 1024 + 0x38) == "ext4 0");
    CHECK(kind("XFSB", 0) == "xfs 0");
    CHECK(kind("hsqs", 0) == "squashfs 0");
    CHECK(kind("_BHRfS_M", 0x10040) == "btrfs 0");
    CHECK(kind("\xe2\xe1\xf5\xe0", 1024) == "erofs 0");
    CHECK(look_at_root(folder.write("zero", std::string(1 << 20, '\0'))).error().code == Errc::root_invalid);
    CHECK(look_at_root(folder.write("short", "x")).error().code == Errc::root_invalid);
    CHECK(look_at_root(folder.path("none")).error().code == Errc::root_missing);
    CHECK(look_at_root("/dev/null").error().code == Errc::root_invalid);
}

TEST_CASE("of a disk with partitions the first one with a file system is the root") {
    const Folder folder;
    std::string mbr(512 * 100, '\0');
    mbr[446 + 8] = 10;      // the first one is empty
    mbr[446 + 16 + 8] = 20; // the second one starts at sector 20
    mbr.replace(510, 2, "\x55\xaa");
    mbr.replace(20 * 512, 4, "XFSB");
    const auto by_mbr = look_at_root(folder.write("mbr", mbr));
    REQUIRE(by_mbr);
    CHECK((by_mbr->file_system == "xfs" && by_mbr->partition == 2));
    std::string gpt(512 * 100, '\0');
    gpt.replace(512, 8, "EFI PART");
    gpt[512 + 72] = 2; // the table's sector
    gpt[512 + 80] = 4;
    gpt[512 + 84] = '\x80';
    gpt[2 * 512 + 2 * 128 + 32] = 50; // the third one
    gpt.replace(50 * 512 + 1024 + 0x38, 2, "\x53\xef");
    const auto by_gpt = look_at_root(folder.write("gpt", gpt));
    REQUIRE(by_gpt);
    CHECK((by_gpt->file_system == "ext4" && by_gpt->partition == 3));
    // A table that points anywhere is no reason to read there
    gpt.replace(512 + 72, 8, "\xff\xff\xff\xff\xff\xff\xff\xff");
    CHECK_FALSE(look_at_root(folder.write("hostile", gpt)));
}

TEST_CASE("a tar archive becomes a part of the RAM disk, with owners, links, device files and long names") {
    const Folder folder;
    const std::string name(150, 'n');
    const auto tar = folder.tar("echo hi >file; chmod 640 file; ln file second; ln -s file soft; mkfifo pipe; mkdir -p "
                                "a/" +
                                name + "; echo x >a/" + name + "/" + name + "; printf '\\303\\244' >'\303\244'");
    CHECK(look_at_root(tar)->type == Type::archive);
    CpioWriter out{MiB};
    REQUIRE(add_tar(tar, "root", out, {}));
    const auto made = out.finish();
    const auto list = listed(made, folder);
    CHECK(text_of(made).contains(std::string{"root/second\0", 12})); // busybox lists no second names
    for (const auto& wanted : {std::string{"root/"}, std::string{"root/soft -> file\n"}, std::string{"root/pipe\n"},
                               "root/a/" + name + "/" + name + "\n", std::string{"root/\303\244\n"}}) {
        INFO(list);
        CHECK(list.find(wanted) != std::string::npos);
    }
}

TEST_CASE("an archive that is damaged, too large or leads elsewhere is refused, compressed or not") {
    const Folder folder;
    const auto tar = folder.tar("head -c 300000 /dev/urandom >f");
    for (const char* tool : {"gzip", "xz", "zstd", "bzip2"}) {
        INFO(tool);
        const auto packed = tests::run_process({"/usr/bin/env", tool, "-c", tar});
        REQUIRE(packed.code == 0);
        CpioWriter whole{MiB};
        CHECK(add_tar(folder.write("p", packed.out), "root", whole, {}));
        CHECK(look_at_root(folder.path("p"))->type == Type::archive);
        CpioWriter cut{MiB};
        CHECK(add_tar(folder.write("p", packed.out.substr(0, 100'000)), "root", cut, {}).error().code ==
              Errc::root_invalid);
    }
    CpioWriter small{200 * KiB};
    CHECK(add_tar(tar, "root", small, {}).error().code == Errc::initrd_does_not_fit);
    CpioWriter stopped{MiB};
    std::stop_source stop;
    stop.request_stop();
    CHECK(add_tar(tar, "root", stopped, stop.get_token()).error().code == Errc::wrong_state);
    const auto out = tests::run_process(
        {"/bin/sh", "-ec", "cd '" + folder.top.path + "'; echo x >x; tar -cPf up.tar --transform s,^,a/../../, x"});
    REQUIRE(out.code == 0);
    CpioWriter up{MiB};
    CHECK(add_tar(folder.path("up.tar"), "root", up, {}).error().code == Errc::root_invalid);
}

TEST_CASE("a kernel's file says which modules are its own") {
    const Folder folder;
    CHECK(kernel_release(folder.write("k", bzimage("6.12.117+deb12-amd64 (x@y) #1")), {}).value_or("?") ==
          "6.12.117+deb12-amd64");
    CHECK(kernel_release(folder.write("k", bzimage("../../etc x")), {}).value_or("?") == "");
    CHECK(kernel_release(folder.write("k", bzimage(std::string(200, '6'))), {}).value_or("?") == "");
    tests::Elf elf;
    tests::Bytes data(5000);
    const std::string text{"Linux version %s\0Linux version 6.1.0-57-amd64 (builder) #1\n", 58};
    std::ranges::copy(std::as_bytes(std::span{text}), data.begin() + 3000);
    elf.load(0x1000000, data, data.size());
    CHECK(kernel_release(folder.write("k", text_of(elf.bytes())), {}).value_or("?") == "6.1.0-57-amd64");
    CHECK(kernel_release(folder.write("k", "nothing"), {}).value_or("?") == "");
    CHECK(kernel_release(folder.path("none"), {}).error().code == Errc::kernel_missing);
}

TEST_CASE("a command runs where the caller is, if the root has that place") {
    const Folder folder;
    std::filesystem::create_directories(folder.path("in/side"));
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(folder.path("in/side"));
    CHECK(usual_directory("/") == std::filesystem::canonical(folder.path("in/side")).string());
    CHECK(usual_directory(folder.path("in")) == "/side");
    CHECK(usual_directory(folder.path("in/side")) == "/");
    CHECK(usual_directory(folder.path("in/sid")) == "/");
    CHECK(usual_directory("../..") == "/in/side");
    std::filesystem::current_path(before);
}

TEST_CASE("an image gets a disk by which init finds it; an archive needs none, and cannot be written to") {
    const Folder folder;
    Config config;
    config.root = RootConfig{.path = folder.write("image", "XFSB")};
    REQUIRE(add_device(config));
    REQUIRE(add_device(config)); // once
    const auto disks = devices_of<DriveConfig>(config);
    REQUIRE(disks.size() == 1);
    CHECK((disks[0]->block.serial == "inox-root" && disks[0]->block.read_only));
    config.root->writable = true;
    REQUIRE(add_device(config));
    CHECK_FALSE(devices_of<DriveConfig>(config)[0]->block.read_only);
    Config archive;
    archive.root = RootConfig{.path = folder.tar("echo x >x")};
    CHECK(add_device(archive));
    CHECK(archive.devices.empty());
    archive.root->writable = true;
    CHECK(add_device(archive).error().where == "/root/writable");
    Config none;
    none.root = RootConfig{.path = folder.path("none")};
    CHECK(add_device(none).error().where == "/root/path");
}

TEST_CASE("a folder is shared, and the kernel's modules with it unless they are in there") {
    const Folder folder;
    std::filesystem::create_directories(folder.path("r/x"));
    folder.write("m/lib/modules/6.1.0/modules.dep", "");
    Config config;
    config.boot.kernel = folder.write("k", bzimage("6.1.0 x"));
    config.root = RootConfig{.path = folder.path("r"), .modules = folder.path("m")};
    REQUIRE(add_device(config));
    const auto shares = devices_of<devices::virtio::FsOptions>(config);
    REQUIRE(shares.size() == (share::available() ? 2 : 1));
    CHECK((shares[0]->tag == "inox-root" && shares[0]->path == folder.path("r") && shares[0]->read_only));
    if (share::available()) {
        CHECK((shares[1]->tag == "inox-modules" && shares[1]->path == folder.path("m/lib/modules/6.1.0")));
        CHECK(shares[1]->read_only);
    }
    for (const auto& placed : placed_devices(config))
        CHECK(placed.where.starts_with("/root/"));
    CHECK_FALSE(check(config).empty()); // the names are inox's own
    Config inside;
    inside.boot.kernel = config.boot.kernel;
    inside.root = RootConfig{.path = folder.top.path, .writable = true, .modules = folder.path("m")};
    REQUIRE(add_device(inside));
    REQUIRE(inside.devices.size() == 1);
    CHECK_FALSE(devices_of<devices::virtio::FsOptions>(inside)[0]->read_only);
    const auto made = make_initrd(inside, {});
    REQUIRE(made);
    CHECK(text_of(*made).find(std::string{"modules-here=/m/lib/modules/6.1.0\0", 34}) != std::string::npos);
}

TEST_CASE("the RAM disk has init, its orders and the modules; nothing of the orders is on a command line") {
    const Folder folder;
    Config config;
    config.boot.kernel = folder.write("k", bzimage("6.1.0 x"));
    config.root = RootConfig{.path = folder.write("image", "XFSB"), .modules = folder.path("m")};
    config.command = CommandConfig{.arguments = {"make", "all of it", ""}, .environment = {"A=b c"}, .directory = "/w"};
    folder.write("m/lib/modules/6.1.0/modules.dep", "overlay.ko:\n");
    folder.write("m/lib/modules/6.1.0/overlay.ko", std::string{"x\0vermagic=6.1.0 SMP\0", 21});
    const auto made = make_initrd(config, {});
    REQUIRE(made);
    const auto list = listed(*made, folder);
    for (const char* wanted : {"init\n", "orders\n", "modules/overlay.ko\n", "dev/console\n", "proc\n"})
        CHECK(list.find(wanted) != std::string::npos);
    const auto text = text_of(*made);
    for (const auto& order :
         {std::string{"root=disk\0", 10}, std::string{"type=xfs\0", 9}, std::string{"argument=make\0", 14},
          std::string{"argument=all of it\0argument=\0", 29}, std::string{"env=A=b c\0", 10},
          std::string{"directory=/w\0", 13}, std::string{"module=/modules/overlay.ko\0", 27}})
        CHECK(text.find(order) != std::string::npos);
    config.root->modules = folder.path("none");
    CHECK(make_initrd(config, {}).error().where == "/root/modules");
    config.boot.kernel = folder.path("none");
    CHECK(make_initrd(config, {}).error().where == "/boot-source/kernel_image_path");
}

TEST_CASE("modules are found beside the kernel and in its build tree") {
    const Folder folder;
    const auto finds = [&](const std::string& kernel, const std::string& list) {
        Config config;
        config.boot.kernel = folder.write(kernel, bzimage("6.9.9-none x"));
        config.root = RootConfig{.path = folder.write("image", "XFSB")};
        folder.write(list, "");
        const auto made = make_initrd(config, {});
        REQUIRE(made);
        const auto text = text_of(*made);
        const auto at = text.find("modules=") + 8;
        std::filesystem::remove(folder.path(list));
        return text.substr(at, text.find('\0', at) - at);
    };
    CHECK(finds("a/vmlinuz", "a/lib/modules/6.9.9-none/modules.dep").ends_with("a/lib/modules/6.9.9-none"));
    CHECK(finds("b/boot/vmlinuz", "b/lib/modules/6.9.9-none/modules.dep").ends_with("/lib/modules/6.9.9-none"));
    CHECK(finds("c/vmlinuz", "c/modules/modules.dep").ends_with("c/modules"));
    CHECK(finds("d/arch/x86/boot/bzImage", "d/modules.order").ends_with("/../../.."));
    CHECK(finds("e/vmlinux", "none").empty());
}

} // namespace inox::guest_root_test
