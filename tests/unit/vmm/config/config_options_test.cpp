// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_options.hpp"

#include <algorithm>

#include "tests/catch.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::config_options_test {

namespace {

Result<void> apply(std::string_view name, const std::string& text, ConfigFile& file) {
    const auto options = run_options();
    const auto found = std::ranges::find(options, name, [](const auto& one) { return std::string_view{one.name}; });
    REQUIRE(found != options.end());
    return found->apply(*found, text, file);
}

ConfigFile with(std::string_view name, const std::string& text) {
    ConfigFile file;
    const auto applied = apply(name, text, file);
    CHECK(applied);
    return file;
}

Error refused(std::string_view name, const std::string& text) {
    ConfigFile file;
    auto applied = apply(name, text, file);
    REQUIRE_FALSE(applied);
    CHECK(applied.error().where == name);
    CHECK_FALSE(applied.error().hint.empty());
    return applied.error();
}

} // namespace

TEST_CASE("each option sets its field") {
    CHECK(with("--kernel", "/k").config.boot.kernel == "/k");
    CHECK(with("--initrd", "/i").config.boot.initrd == "/i");
    CHECK(with("--cmdline", "").config.boot.cmdline.empty());
    CHECK(with("--cpus", "32").config.machine.cpus == 32);
    CHECK(with("--memory", "1G").config.machine.memory == GiB);
    CHECK(with("--memory", "300").config.machine.memory == 300 * MiB);
    CHECK(with("--huge-pages", "2m").config.machine.huge_pages == HugePages::two_mib);
    CHECK(with("--huge-pages", "Transparent").config.machine.huge_pages == HugePages::transparent);
    CHECK(with("--smt", "").config.machine.smt);
    CHECK(with("--track-dirty-pages", "").config.machine.track_dirty_pages);
    CHECK(with("--timeout", "1m").run.timeout == std::chrono::milliseconds{60'000});
    CHECK(with("--expect", "a|b").run.expect == "a|b");
    CHECK(with("--serial-log", "/s").run.serial_log == "/s");
    CHECK(with("--root", "/r").config.root->path == "/r");
    CHECK(with("--root-rw", "").config.root->writable);
    CHECK(with("--modules", "/m").config.root->modules == "/m");
    CHECK(with("--env", "A=b=c").config.command->environment == std::vector<std::string>{"A=b=c"});
    CHECK(with("--directory", "/d").config.command->directory == "/d");
    CHECK(with("--keep-fds", "5,17").run.keep_fds == std::vector<int>{5, 17});
    CHECK(with("--allow", "/i:ro").allow == std::vector<AllowedPath>{{"/i", true}});
    CHECK(with("--console-overflow", "drop").run.console_overflow == ConsoleOverflow::drop);
    CHECK(with("--console-overflow", "wait").run.console_overflow == ConsoleOverflow::wait);
    CHECK(with("--seccomp", "on").run.seccomp == Seccomp::on);
    CHECK(with("--seccomp", "log").run.seccomp == Seccomp::log);
    CHECK(with("--seccomp", "off").run.seccomp == Seccomp::off);
    CHECK(with("--boot-timeline", "b.svg").run.boot_timeline == "b.svg");
    CHECK(with("--fail-on", "kernel").run.fail_on == std::vector<std::string>{"kernel"});
    CHECK(with("--quiet-for", "30s").run.quiet_for == std::chrono::seconds{30});
    CHECK(with("--symbols", "System.map").run.symbols == "System.map");
    CHECK(with("--exits", "e.json").run.exits == "e.json");
    CHECK(with("--result", "r.json").run.result == "r.json");
    CHECK(with("--dump-on-panic", "core").run.dump_on_panic == "core");
    CHECK(with("--gdb", "1234").run.gdb->port == 1234);
    CHECK(with("--gdb", "1234").run.gdb->wait);
    CHECK(with("--gdb", "unix:/a,b,wait=off").run.gdb->socket == "/a,b");
    CHECK_FALSE(with("--gdb", "unix:/a,wait=off").run.gdb->wait);
    CHECK(with("--quiet", "").run.quiet);
    CHECK(with("--on-panic", "end").config.machine.end_on_panic);
    CHECK_FALSE(with("--on-panic", "report").config.machine.end_on_panic);
    CHECK(with("--log-path", "/l").log.path == "/l");
    CHECK(with("--log-level", "trace").log.level == log::Level::trace);
}

TEST_CASE("each option refuses nonsense by name and with a hint") {
    CHECK(refused("--kernel", "").code == Errc::bad_option);
    CHECK(refused("--cpus", "x").code == Errc::bad_option);
    CHECK(refused("--cpus", "0").code == Errc::cpus_invalid);
    CHECK(refused("--cpus", "4294967297").code == Errc::cpus_invalid);
    CHECK(refused("--memory", "lots").code == Errc::bad_option);
    CHECK(refused("--huge-pages", "").code == Errc::bad_option);
    CHECK(refused("--timeout", "").code == Errc::bad_option);
    CHECK(refused("--expect", "[").code == Errc::bad_option);
    CHECK(refused("--expect", std::string(2000, 'x')).code == Errc::bad_option);
    CHECK(refused("--boot-timeline", "b").code == Errc::bad_option);
    CHECK(refused("--log-level", "all").code == Errc::bad_option);
}

TEST_CASE("a device's first word needs no key") {
    ConfigFile file;
    REQUIRE(apply("--vfio", "01:00.0,id=nic,backend=container,rom=off,relocate_msix=off", file));
    CHECK(devices_of<VfioConfig>(file.config).at(0)->open.host == "01:00.0");
    CHECK(devices_of<VfioConfig>(file.config).at(0)->open.backend == devices::vfio::Backend::container);
    CHECK_FALSE(devices_of<VfioConfig>(file.config).at(0)->rom);
    REQUIRE(apply("--vfio", "id=nic2,host=02:00.0", file));
    CHECK(devices_of<VfioConfig>(file.config).at(1)->open.host == "02:00.0");
    REQUIRE(apply("--disk", "root.img,readonly", file));
    CHECK(devices_of<DriveConfig>(file.config).at(0)->block.path == "root.img");
    CHECK(devices_of<DriveConfig>(file.config).at(0)->block.read_only);
    REQUIRE(apply("--net", "tap0,mtu=1400", file));
    CHECK(devices_of<devices::virtio::NetOptions>(file.config).at(0)->tap == "tap0");
}

TEST_CASE("user is the user's network, a tap of that name needs its key, and forwards follow their interface") {
    ConfigFile file;
    const auto early = apply("--forward", "2222:22", file);
    REQUIRE_FALSE(early);
    CHECK(early.error().where == "--forward");
    CHECK(early.error().hint == "write --net user --forward 2222:22");
    REQUIRE(apply("--net", "user", file));
    REQUIRE(apply("--net", "tap=user", file));
    REQUIRE(apply("--net", "user,host=on", file));
    REQUIRE(apply("--forward", "2222:22", file));
    REQUIRE(apply("--forward", "udp:[::1]:53:5353", file));
    const auto nets = devices_of<devices::virtio::NetOptions>(file.config);
    CHECK((nets.at(0)->user && !nets.at(0)->host && nets.at(0)->forwards.empty()));
    CHECK((!nets.at(1)->user && nets.at(1)->tap == "user"));
    CHECK((nets.at(2)->user && nets.at(2)->host && nets.at(2)->forwards.size() == 2));
    CHECK(check(file.config).empty());
    CHECK_FALSE(apply("--forward", "22", file));
}

TEST_CASE("what a key holds decides how its word is read") {
    ConfigFile file;
    REQUIRE(apply("--disk", "path=7,serial=12345,readonly=off,queues=2", file));
    const auto& block = devices_of<DriveConfig>(file.config).at(0)->block;
    CHECK(block.path == "7");
    CHECK(block.serial == "12345");
    CHECK_FALSE(block.read_only);
    CHECK(block.queues == 2);
    REQUIRE(apply("--disk", "on", file));
    CHECK(devices_of<DriveConfig>(file.config).at(1)->block.path == "on");
    const auto wrong = apply("--disk", "a,readonly=maybe", file);
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().what == "expected on or off, got 'maybe'");
    CHECK_FALSE(apply("--disk", "a,queues=two", file));
    const auto unknown = apply("--disk", "a,sector=512", file);
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().hint.starts_with("the keys here are id, partuuid, root, cache, readonly, path"));
}

TEST_CASE("a refusal names the option and its key as they were written, the value, and what is allowed") {
    struct Row {
        const char* option;
        const char* text;
        const char* where;
        const char* what;
    };
    constexpr Row rows[] = {
        {"--net", "t,queues=33", "--net queues", "33 is not a whole number from 1 to 16"},
        {"--net", "t,queues=0", "--net queues", "0 is not a whole number from 1 to 16"},
        {"--net", "t,queues", "--net queues", "expected a whole number from 1 to 16, got no value"},
        {"--net", "t,mtu=5", "--net mtu", "5 is not a whole number from 68 to 65535"},
        {"--disk", "d,queues=two", "--disk queues", "'two' is not a whole number from 1 to 32"},
        {"--disk", "d,queues=-1", "--disk queues", "'-1' is not a whole number from 1 to 32"},
        {"--disk", "d,readonly=maybe", "--disk readonly", "expected on or off, got 'maybe'"},
        {"--disk", "d,foo=1", "--disk", "unknown key 'foo'"},
        {"--disk", "readonly=on", "--disk", "the key 'path' is missing"},
        {"--iommu", "address_bits=99", "--iommu address_bits", "99 is not a whole number from 32 to 64"},
        {"--iommu", "max_domains=0", "--iommu max_domains", "0 is not a whole number from 1 to 65536"},
        {"--pasid", "quota=0", "--pasid quota", "0 is not a whole number from 1 to 1048575"},
        {"--vsock", "cid=2,uds=s", "--vsock cid", "2 is not a whole number from 3 to 4294967294"},
        {"--vsock", "cid=3", "--vsock", "the key 'uds' is missing"},
        {"--vsock", "uds=s", "--vsock", "the key 'cid' is missing"},
        {"--balloon", "size=99999999999", "--balloon size", "99999999999 is not a whole number from 0 to 4194303"},
        {"--memory", "1.5", "--memory", "'1.5' is not a size from 1088 KiB to 4096 GiB"},
        {"--memory", "18446744073709551616", "--memory",
         "'18446744073709551616' is not a size from 1088 KiB to 4096 GiB"},
        {"--pci-window-32", "-1", "--pci-window-32", "'-1' is not a size from 2 MiB to 2 GiB"},
        {"--cpus", "-1", "--cpus", "'-1' is not a number of CPUs from 1 to 255"},
        {"--timeout", "-1", "--timeout", "'-1' is not a time from 1ms to 366 days"},
        {"--timeout", "0", "--timeout", "'0' is not a time from 1ms to 366 days"},
        {"--grace", "0s", "--grace", "'0s' is not a time from 1ms to 366 days"},
        {"--api-connections", "4097", "--api-connections", "'4097' is not a number of connections from 1 to 4096"},
    };
    for (const auto& row : rows) {
        INFO(row.option << " " << row.text);
        auto file = initial_config(Dialect::inox);
        const auto refused = apply(row.option, row.text, file);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().where == row.where);
        CHECK(refused.error().what == row.what);
        CHECK_FALSE(refused.error().hint.empty());
    }
    ConfigFile file;
    CHECK(apply("--disk", "d,foo=1", file).error().hint.starts_with("the keys here are "));
}

TEST_CASE("--smbios and --id name the guest to itself and to its user") {
    const auto file =
        with("--smbios", "serial=ds=nocloud;s=http://10.0.0.1/,uuid=00112233-4455-6677-8899-aabbccddeeff");
    CHECK(file.config.smbios.serial == "ds=nocloud;s=http://10.0.0.1/");
    CHECK(file.config.smbios.uuid == boot::parse_uuid("00112233-4455-6677-8899-aabbccddeeff"));
    CHECK(file.config.smbios.manufacturer == "inox");
    ConfigFile other;
    CHECK(apply("--smbios", "uuid=x", other).error().what.contains("not a UUID"));
    CHECK(apply("--smbios", "family=" + std::string(256, 'x'), other).error().where == "--smbios family");
    CHECK(with("--id", "vm-1_A").api.id == "vm-1_A");
    CHECK(is_id(with("--id", "").api.id));
    CHECK(refused("--id", "a.b").hint == id_rule);
    CHECK(device_of<DriveConfig>(with("--disk", "f,temporary").config)->block.temporary);
    CHECK_FALSE(device_of<DriveConfig>(with("--disk", "f,temporary=no").config)->block.temporary);
}

TEST_CASE("a disk takes the words of mount, and a switch those of everyday language") {
    const auto read_only = [](const std::string& text) {
        return device_of<DriveConfig>(with("--disk", text).config)->block.read_only;
    };
    CHECK(read_only("f,ro"));
    CHECK(read_only("f,ro=yes,id=d"));
    CHECK(read_only("id=d,ro,path=f"));
    CHECK(read_only("f,readonly=true"));
    CHECK_FALSE(read_only("f,rw"));
    CHECK_FALSE(read_only("f,ro=no"));
    CHECK(device_of<DriveConfig>(with("--disk", "ro").config)->block.path == "ro");
    CHECK(refused("--disk", "f,ro,rw").what.contains("twice"));
    CHECK_FALSE(refused("--disk", "f,rd").hint.contains("did you mean"));
    CHECK(with("--panic-text", "no").config.machine.panic_text == false);
    CHECK(with("--gdb", "1234,wait=no").run.gdb->wait == false);
    CHECK(with("--gdb", "1234,wait=yes").run.gdb->wait);
}

} // namespace inox::config_options_test
