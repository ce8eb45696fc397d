// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_options.hpp"

#include <algorithm>

#include "tests/catch.hpp"

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
    CHECK(with("--timeout", "1m").run.timeout == std::chrono::milliseconds{60'000});
    CHECK(with("--expect", "a|b").run.expect == "a|b");
    CHECK(with("--serial-log", "/s").run.serial_log == "/s");
    CHECK(with("--keep-fds", "5,17").run.keep_fds == std::vector<int>{5, 17});
    CHECK(with("--console-overflow", "drop").run.console_overflow == ConsoleOverflow::drop);
    CHECK(with("--console-overflow", "wait").run.console_overflow == ConsoleOverflow::wait);
    CHECK(with("--boot-timeline", "b.svg").run.boot_timeline == "b.svg");
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
    CHECK(file.config.vfio.at(0).open.host == "01:00.0");
    CHECK(file.config.vfio.at(0).open.backend == devices::vfio::Backend::container);
    CHECK_FALSE(file.config.vfio.at(0).rom);
    REQUIRE(apply("--vfio", "id=nic2,host=02:00.0", file));
    CHECK(file.config.vfio.at(1).open.host == "02:00.0");
    REQUIRE(apply("--disk", "root.img,readonly", file));
    CHECK(file.config.drives.at(0).block.path == "root.img");
    CHECK(file.config.drives.at(0).block.read_only);
    REQUIRE(apply("--net", "tap0,mtu=1400", file));
    CHECK(file.config.nets.at(0).tap == "tap0");
}

TEST_CASE("what a key holds decides how its word is read") {
    ConfigFile file;
    REQUIRE(apply("--disk", "path=7,serial=12345,readonly=off,queues=2", file));
    const auto& block = file.config.drives.at(0).block;
    CHECK(block.path == "7");
    CHECK(block.serial == "12345");
    CHECK_FALSE(block.read_only);
    CHECK(block.queues == 2);
    REQUIRE(apply("--disk", "on", file));
    CHECK(file.config.drives.at(1).block.path == "on");
    const auto wrong = apply("--disk", "a,readonly=maybe", file);
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().what == "expected true or false, got string");
    CHECK_FALSE(apply("--disk", "a,queues=two", file));
    const auto unknown = apply("--disk", "a,sector=512", file);
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().hint.starts_with("the keys here are id, partuuid, root, cache, readonly, path"));
}
