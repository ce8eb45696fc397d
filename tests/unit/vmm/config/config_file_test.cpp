// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_file.hpp"

#include <algorithm>
#include <fstream>
#include <unistd.h>

#include "tests/catch.hpp"
#include "vmm/config/config_json.hpp"

namespace inox::config_file_test {

namespace {

ParsedConfig parse(std::string_view text) { return parse_config(text, Dialect::inox); }

/// The only problem, as "code where". Checks that every problem has a text.
std::string only_problem(const ParsedConfig& parsed) {
    INFO("problems: " << parsed.problems.size());
    for (const auto& problem : parsed.problems)
        UNSCOPED_INFO(problem.report());
    REQUIRE(parsed.problems.size() == 1);
    CHECK_FALSE(parsed.problems[0].what.empty());
    return std::string{error_name(parsed.problems[0].code)} + " " + parsed.problems[0].where;
}
std::string only_problem(std::string_view text) { return only_problem(parse(text)); }

const Error* problem_at(const ParsedConfig& parsed, std::string_view where) {
    const auto found = std::ranges::find(parsed.problems, where, &Error::where);
    return found == parsed.problems.end() ? nullptr : &*found;
}

} // namespace

TEST_CASE("an empty object is the default machine") {
    const auto parsed = parse("{}");
    CHECK(parsed.problems.empty());
    CHECK(parsed.file.config.machine.cpus == 1);
    CHECK(parsed.file.config.machine.memory == 128 * MiB);
    CHECK(parsed.file.config.boot.kernel.empty());
    CHECK(parsed.file.config.boot.cmdline.empty());
}

TEST_CASE("every key reaches its field") {
    const auto parsed = parse(R"({
        "boot-source": {"kernel_image_path": "/k", "initrd_path": "/i", "boot_args": "console=ttyS0 root=/dev/vda"},
        "machine-config": {"vcpu_count": 4, "mem_size_mib": 512, "smt": true, "huge_pages": "2M",
                           "track_dirty_pages": true, "cpu_template": "None"},
        "logger": {"log_path": "/log", "level": "Debug", "show_level": true, "show_log_origin": false},
        "inox": {"timeout": "500ms", "expect": "up$", "serial_log": "/s", "boot_timeline": "t.svg", "quiet": true,
                 "on_panic": "end", "console_overflow": "drop", "keep_fds": "5,6",
                 "seccomp": "log", "allow": ["/images", "/etc/d:ro", "/odd:ro:rw"]}})");
    CHECK(parsed.problems.empty());
    const auto& config = parsed.file.config;
    const auto& run = parsed.file.run;
    const auto& log = parsed.file.log;
    CHECK(config.boot.kernel == "/k");
    CHECK(config.boot.initrd == "/i");
    CHECK(config.boot.cmdline == "console=ttyS0 root=/dev/vda");
    CHECK(config.machine.cpus == 4);
    CHECK(config.machine.memory == 512 * MiB);
    CHECK(config.machine.smt);
    CHECK(config.machine.track_dirty_pages);
    CHECK(config.machine.huge_pages == HugePages::two_mib);
    CHECK(log.path == "/log");
    CHECK(log.level == log::Level::debug);
    CHECK(run.timeout == std::chrono::milliseconds{500});
    CHECK(run.expect == "up$");
    CHECK(run.serial_log == "/s");
    CHECK(run.console_overflow == ConsoleOverflow::drop);
    CHECK(run.seccomp == Seccomp::log);
    CHECK(run.keep_fds == std::vector<int>{5, 6});
    CHECK(parsed.file.allow == std::vector<AllowedPath>{{"/images", false}, {"/etc/d", true}, {"/odd:ro", false}});
    CHECK(run.boot_timeline == "t.svg");
    CHECK(run.quiet);
    CHECK(parsed.file.config.machine.end_on_panic);
}

TEST_CASE("what inox test runs: paths start at the file, names of kernels do not") {
    const auto parsed = parse_config(R"({"root": {"path": "r"}, "command": {"arguments": ["true"]}, "test": {
        "kernels": ["6.12", "host", "debian-6.1", "linux", "6.1/linux", "./6.12", "/k"], "cpus": [1, 255],
        "memory": ["512M", 64], "append": "debug", "kunit": true, "jobs": 3, "junit": "out.xml", "tap": true,
        "artifacts": "kept", "show_console": true, "slurm": true, "slurm_options": ["--partition=kvm"]}})",
                                     Dialect::inox, Transport::pci, "conf/");
    CHECK(parsed.problems.empty()); // the root's kernel is the test's
    const auto& test = parsed.file.test;
    CHECK(test.kernels ==
          std::vector<std::string>{"6.12", "host", "debian-6.1", "conf/linux", "conf/6.1/linux", "conf/./6.12", "/k"});
    CHECK(test.cpus == std::vector<std::string>{"1", "255"});
    CHECK(test.memory == std::vector<std::string>{"512M", "64"});
    CHECK(test.append == "debug");
    CHECK(test.kunit);
    CHECK(test.jobs == 3);
    CHECK(test.junit == "conf/out.xml");
    CHECK(test.tap);
    CHECK(test.artifacts == "conf/kept");
    CHECK(test.show_console);
    CHECK(test.slurm);
    CHECK(test.slurm_options == std::vector<std::string>{"--partition=kvm"});
    CHECK(parsed.file.config.boot.kernel.empty());

    CHECK(only_problem(R"({"root": {"path": "r"}, "test": {"kernels": []}})") == "config_value /test/kernels");
    CHECK(only_problem(R"({"root": {"path": "r"}, "test": {"cpus": [1]}})") == "config_missing_key /root/path");
}

TEST_CASE("rules for the whole are left to those who put options over the file") {
    const auto text = R"({"root": {"path": "r"}, "command": {"directory": "x"}, "inox": {"timeout": "soon"}})";
    auto parsed = parse_config(text, Dialect::inox, Transport::pci, "", Rules::later);
    CHECK(only_problem(parsed) == "config_value /inox/timeout");
    CHECK(parse(text).problems.size() == 3);
    parsed.file.config.boot.kernel = "/k";
    const auto rules = check_rules(parsed.file, Dialect::inox, parsed.problems);
    REQUIRE(rules.size() == 1);
    CHECK(rules[0].where == "/command/directory");
}

TEST_CASE("a kernel without boot_args gets the default command line of the dialect, an empty one stays empty") {
    const auto text = R"({"boot-source": {"kernel_image_path": "/k"}})";
    CHECK(parse(text).file.config.boot.cmdline == default_cmdline);
    CHECK(parse_config(text, Dialect::firecracker).file.config.boot.cmdline == firecracker_cmdline);
    CHECK(parse(R"({"boot-source": {"kernel_image_path": "/k", "boot_args": null}})").file.config.boot.cmdline ==
          default_cmdline);
    CHECK(parse(R"({"boot-source": {"kernel_image_path": "/k", "boot_args": ""}})").file.config.boot.cmdline.empty());
}

TEST_CASE("an unknown key is named with its pointer and the nearest valid key") {
    const auto top = parse(R"({"machine_config": {}})");
    CHECK(only_problem(top) == "config_unknown_key /machine_config");
    CHECK(top.problems[0].hint == "did you mean 'machine-config'?");
    const auto inner = parse(R"({"machine-config": {"vcpu_cuont": 1}})");
    CHECK(only_problem(inner) == "config_unknown_key /machine-config/vcpu_cuont");
    CHECK(inner.problems[0].hint == "did you mean 'vcpu_count'?");
    const auto far = parse(R"({"inox": {"colour": 1}})");
    CHECK(
        far.problems.at(0).hint ==
        "the keys here are timeout, expect, serial_log, console_overflow, keep_fds, allow, fail_on, quiet_for, "
        "symbols, result, exits, "
        "dump_on_panic, gdb, boot_timeline, api_sock, id, api_group, api_connections, on_panic, panic_text, on_reboot, "
        "grace, pci_window_32_mib, "
        "pci_window_64_mib, seccomp or quiet");
}

TEST_CASE("only Firecracker's dialect ignores unknown top-level keys, and it lists them") {
    const auto text = R"({"boot-source": {"kernel_image_path": "/k"}, "drives": [], "surreal": {"x": 1}})";
    const auto parsed = parse_config(text, Dialect::firecracker);
    CHECK(parsed.problems.empty());
    CHECK(parsed.ignored == std::vector<std::string>{"surreal"});
    CHECK(only_problem(text) == "config_unknown_key /surreal");
    CHECK(only_problem(parse_config(R"({"boot-source": {"kernel_image_path": "/k", "x": 1}})", Dialect::firecracker)) ==
          "config_unknown_key /boot-source/x");
}

TEST_CASE("Firecracker's required keys are required in its dialect only") {
    CHECK(only_problem(parse_config("{}", Dialect::firecracker)) == "config_missing_key ");
    const auto text = R"({"boot-source": {"kernel_image_path": "/k"}, "machine-config": {"vcpu_count": 2}})";
    const auto parsed = parse_config(text, Dialect::firecracker);
    CHECK(only_problem(parsed) == "config_missing_key /machine-config");
    CHECK(parsed.problems[0].what == "the key 'mem_size_mib' is missing");
    CHECK(parse(text).problems.empty());
    CHECK(only_problem(R"({"boot-source": {"boot_args": "x"}})") == "config_missing_key /boot-source");
}

TEST_CASE("a value of the wrong type is reported at its pointer") {
    CHECK(only_problem("[]") == "config_type ");
    CHECK(only_problem("null") == "config_type ");
    CHECK(only_problem(R"({"machine-config": []})") == "config_type /machine-config");
    CHECK(only_problem(R"({"machine-config": {"vcpu_count": "2"}})") == "config_type /machine-config/vcpu_count");
    CHECK(only_problem(R"({"machine-config": {"vcpu_count": 1.5}})") == "config_type /machine-config/vcpu_count");
    CHECK(only_problem(R"({"machine-config": {"vcpu_count": null}})") == "config_type /machine-config/vcpu_count");
    CHECK(only_problem(R"({"machine-config": {"smt": 1}})") == "config_type /machine-config/smt");
    CHECK(only_problem(R"({"machine-config": {"huge_pages": false}})") == "config_type /machine-config/huge_pages");
    CHECK(only_problem(R"({"boot-source": {"kernel_image_path": 7}})") == "config_type /boot-source/kernel_image_path");
    CHECK(only_problem(R"({"inox": {"timeout": true}})") == "config_type /inox/timeout");
    CHECK(only_problem(R"({"inox": {"expect": ["x"]}})") == "config_type /inox/expect");
    CHECK(only_problem(R"({"inox": {"on_panic": "ignore"}})") == "config_value /inox/on_panic");
    CHECK(only_problem(R"({"inox": {"console_overflow": "block"}})") == "config_value /inox/console_overflow");
    CHECK(only_problem(R"({"inox": {"seccomp": "On"}})") == "config_value /inox/seccomp");
    for (const char* list : {"", "2", "5,", ",5", "5;6", "-5", "99999999999"})
        CHECK(only_problem(R"({"inox": {"keep_fds": ")" + std::string{list} + R"("}})") ==
              "config_value /inox/keep_fds");
    CHECK(only_problem(R"({"inox": {"quiet": "yes"}})") == "config_type /inox/quiet");
    CHECK(only_problem(R"({"logger": "/log"})") == "config_type /logger");
}

TEST_CASE("numbers out of range are refused, never narrowed") {
    const auto cpus = [](const std::string& value) {
        return only_problem(R"({"machine-config": {"vcpu_count": )" + value + "}}");
    };
    const auto memory = [](const std::string& value) {
        return only_problem(R"({"machine-config": {"mem_size_mib": )" + value + "}}");
    };
    for (const auto* value : {"0", "256", "-1", "257", "4294967297", "18446744073709551616", "1e30", "-1e30"})
        CHECK(cpus(value) == "cpus_invalid /machine-config/vcpu_count");
    for (const auto* value : {"0", "1", "-5", "4194305", "17592186044416", "18446744073709551615", "1e25"})
        CHECK(memory(value) == "memory_invalid /machine-config/mem_size_mib");
    CHECK(cpus("1e999").starts_with("config_syntax"));
}

TEST_CASE("rules between fields are checked") {
    CHECK(only_problem(R"({"machine-config": {"vcpu_count": 3, "smt": true}})") ==
          "cpus_invalid /machine-config/vcpu_count");
    CHECK(parse(R"({"machine-config": {"vcpu_count": 1, "smt": true}})").problems.empty());
    CHECK(only_problem(R"({"machine-config": {"mem_size_mib": 129, "huge_pages": "2M"}})") ==
          "memory_invalid /machine-config/mem_size_mib");
    CHECK(parse(R"({"machine-config": {"mem_size_mib": 129, "huge_pages": "Transparent"}})").problems.empty());
}

TEST_CASE("pages are transparent unless the file says otherwise, with Firecracker's flags if it does") {
    constexpr auto pages = [](const ConfigFile& file) { return file.config.machine.huge_pages; };
    CHECK(pages(parse("{}").file) == HugePages::transparent);
    CHECK(pages(parse(R"({"machine-config": {"huge_pages": "None"}})").file) == HugePages::none);
    CHECK(pages(initial_config(Dialect::inox)) == HugePages::transparent);
    CHECK(pages(initial_config(Dialect::firecracker)) == HugePages::none);
    constexpr auto text = R"({"boot-source": {"kernel_image_path": "/k"}, "drives": [],
                             "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}})";
    CHECK(pages(parse_config(text, Dialect::firecracker).file) == HugePages::none);
}

TEST_CASE("values outside their set are refused with the set") {
    const auto pages = parse(R"({"machine-config": {"huge_pages": "2m"}})");
    CHECK(only_problem(pages) == "config_value /machine-config/huge_pages");
    CHECK(pages.problems[0].what == "'2m' is not one of None, Transparent or 2M");
    CHECK(only_problem(R"({"logger": {"level": "loud"}})") == "config_value /logger/level");
    CHECK(only_problem(R"({"inox": {"timeout": "soon"}})") == "config_value /inox/timeout");
    CHECK(only_problem(R"({"inox": {"expect": "("}})") == "config_value /inox/expect");
    CHECK(only_problem(R"({"inox": {"allow": "/x"}})") == "config_type /inox/allow");
    CHECK(only_problem(R"({"inox": {"allow": ["/x", ":ro"]}})") == "config_value /inox/allow/1");
    CHECK(only_problem(R"({"inox": {"allow": ["/x\u0000y"]}})") == "config_value /inox/allow/0");
    CHECK(only_problem(R"({"inox": {"fail_on": "kernel"}})") == "config_type /inox/fail_on");
    CHECK(only_problem(R"({"inox": {"fail_on": ["kernel", "("]}})") == "config_value /inox/fail_on/1");
    CHECK(only_problem(R"({"inox": {"gdb": "0"}})") == "config_value /inox/gdb");
    CHECK(only_problem(R"({"inox": {"gdb": "unix:"}})") == "config_value /inox/gdb");
    CHECK(only_problem(R"({"inox": {"gdb": "1234,wait=maybe"}})") == "config_value /inox/gdb");
    CHECK(only_problem(R"({"inox": {"boot_timeline": "t.png"}})") == "config_value /inox/boot_timeline");
    CHECK(only_problem(R"({"boot-source": {"kernel_image_path": ""}})") ==
          "config_value /boot-source/kernel_image_path");
    CHECK(only_problem(R"({"boot-source": {"kernel_image_path": "a\u0000b"}})") ==
          "config_value /boot-source/kernel_image_path");
    CHECK(only_problem(R"({"boot-source": {"kernel_image_path": "/k", "boot_args": "a\nb"}})") ==
          "config_value /boot-source/boot_args");
}

TEST_CASE("parts that inox does not have are refused by name, unless nothing is asked of them") {
    for (const auto& key : config_keys()) {
        if (key.available)
            continue;
        const auto name = key.pointer.substr(1);
        for (const auto dialect : {Dialect::inox, Dialect::firecracker}) {
            const auto parsed =
                parse_config(R"({"boot-source": {"kernel_image_path": "/k"}, ")" + name + R"(": {"a": 1}})", dialect);
            CHECK(only_problem(parsed) == "unsupported " + key.pointer);
            CHECK(parsed.problems[0].what.starts_with("this version of inox has no "));
            CHECK_FALSE(parsed.problems[0].hint.empty());
        }
        CHECK(parse(R"({")" + name + R"(": null})").problems.empty());
        CHECK(parse(R"({")" + name + R"(": []})").problems.empty());
    }
    CHECK(only_problem(R"({"machine-config": {"cpu_template": "T2"}})") == "unsupported /machine-config/cpu_template");
    CHECK(only_problem(R"({"cpu-config": {"msr_modifiers": [1]}})") == "unsupported /cpu-config/msr_modifiers");
}

TEST_CASE("all problems come at once") {
    const auto parsed = parse(R"({"machine-config": {"vcpu_count": 0, "mem_size_mib": "x", "bogus": 1},
                                  "boot-source": {"initrd_path": 3}, "drives": [1], "loger": {}})");
    CHECK(parsed.problems.size() == 7);
    CHECK(problem_at(parsed, "/machine-config/vcpu_count")->code == Errc::cpus_invalid);
    CHECK(problem_at(parsed, "/machine-config/mem_size_mib")->code == Errc::config_type);
    CHECK(problem_at(parsed, "/machine-config/bogus")->code == Errc::config_unknown_key);
    CHECK(problem_at(parsed, "/boot-source/initrd_path")->code == Errc::config_type);
    CHECK(problem_at(parsed, "/boot-source")->code == Errc::config_missing_key);
    REQUIRE(problem_at(parsed, "/drives/0") != nullptr);
    CHECK(problem_at(parsed, "/drives/0")->code == Errc::config_type);
    CHECK(problem_at(parsed, "/loger")->hint == "did you mean 'logger'?");
}

TEST_CASE("null means absent where Firecracker writes nulls") {
    CHECK(parse(R"({"boot-source": {"kernel_image_path": "/k", "initrd_path": null, "boot_args": null},
                    "machine-config": {"cpu_template": null}, "logger": null, "vsock": null})")
              .problems.empty());
}

TEST_CASE("a missing or unreadable file is one problem with a hint") {
    const auto missing = load_config("/nonexistent/vm.json", Dialect::inox);
    CHECK(only_problem(missing) == "config_unreadable ");
    CHECK(missing.problems[0].sys_errno == ENOENT);
    const auto directory = load_config("/", Dialect::inox);
    CHECK(only_problem(directory) == "config_unreadable ");
    CHECK(directory.problems[0].sys_errno == EISDIR);
}

TEST_CASE("a huge file is refused without being read to its end") {
    CHECK(only_problem(load_config("/dev/zero", Dialect::inox)) == "config_syntax ");
}

TEST_CASE("log levels are words in any case") {
    CHECK(parse_log_level("WARN") == log::Level::warning);
    CHECK(parse_log_level("Off") == log::Level::off);
    CHECK_FALSE(parse_log_level("verbose"));
    CHECK_FALSE(parse_log_level(""));
}

TEST_CASE("disks and interfaces reach their options, from JSON and from key=value alike") {
    using namespace devices::virtio;
    const auto parsed = parse(R"({"drives": [{"drive_id": "root", "path_on_host": "/d", "is_root_device": true,
                                              "is_read_only": true, "cache_type": "Unsafe", "io_engine": "Sync",
                                              "rate_limiter": {"bandwidth": {"size": 10, "refill_time": 100}}}],
                                  "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "tap9", "mtu": 1400,
                                                          "guest_mac": "06:00:ac:10:00:02"}]})");
    REQUIRE(parsed.problems.empty());
    const DriveConfig& drive = *devices_of<DriveConfig>(parsed.file.config).at(0);
    CHECK(drive.root);
    CHECK(drive.block.id == "root");
    CHECK(drive.block.cache == BlockCache::unsafe);
    CHECK(drive.block.engine == BlockEngineKind::sync);
    CHECK(drive.block.limits.bandwidth->size == 10);
    CHECK(machine_cmdline(parsed.file.config) == "root=/dev/vda ro");
    CHECK(devices_of<devices::virtio::NetOptions>(parsed.file.config).at(0)->mac->text() == "06:00:ac:10:00:02");

    ConfigFile file;
    std::vector<Error> problems;
    read_list_option("drives", "path=/d,readonly=on,root=on,id=root,cache=Unsafe,engine=Sync", file, problems);
    read_list_option("network-interfaces", "tap=tap9,mac=06:00:ac:10:00:02,mtu=1400,id=eth0", file, problems);
    CHECK(problems.empty());
    CHECK(devices_of<DriveConfig>(file.config).at(0)->block.path == "/d");
    CHECK(devices_of<DriveConfig>(file.config).at(0)->block.engine == BlockEngineKind::sync);
    CHECK(machine_cmdline(file.config) == "root=/dev/vda ro");
    CHECK(devices_of<devices::virtio::NetOptions>(file.config).at(0)->mtu == 1400);
    read_list_option("network-interfaces", "user,host=on,forward=udp:5353:53,dns=192.0.2.53", file, problems);
    CHECK(problems.empty());
    const auto& user = *devices_of<devices::virtio::NetOptions>(file.config).at(1);
    CHECK((user.user && user.host && user.tap.empty() && user.dns == "192.0.2.53"));
    CHECK(user.forwards.at(0).text() == "udp:127.0.0.1:5353:53");
}

TEST_CASE("devices that cannot be told apart, two roots and bad values are refused") {
    auto with = [](const char* list, const char* one, const char* two) {
        return only_problem(std::string{"{\""} + list + "\": [" + one + ", " + two + "]}");
    };
    CHECK(with("drives", R"({"drive_id": "a", "path_on_host": "/d"})", R"({"drive_id": "a", "path_on_host": "/e"})") ==
          "config_value /drives");
    CHECK(with("drives", R"({"is_root_device": true, "path_on_host": "/d"})",
               R"({"is_root_device": true, "path_on_host": "/e"})") == "config_value /drives");
    CHECK(with("network-interfaces", R"({"host_dev_name": "t0", "guest_mac": "06:00:00:00:00:01"})",
               R"({"host_dev_name": "t1", "guest_mac": "06:00:00:00:00:01"})") == "config_value /network-interfaces");
    CHECK(with("network-interfaces", R"({"host_dev_name": "t0"})", R"({"host_dev_name": "t0"})") ==
          "config_value /network-interfaces");
    CHECK(only_problem(R"({"drives": [{"drive_id": "../x", "path_on_host": "/d"}]})") ==
          "config_value /drives/0/drive_id");
    CHECK(only_problem(R"({"drives": [{"path_on_host": "/d", "socket": "/s"}]})") == "unsupported /drives/0/socket");
    CHECK(only_problem(R"({"drives": [{"path_on_host": "/d", "rate_limiter": {"ops": {"size": 1}}}]})") ==
          "config_missing_key /drives/0/rate_limiter/ops");
    CHECK(only_problem(R"({"network-interfaces": [{"host_dev_name": "t", "mtu": 60}]})") ==
          "config_value /network-interfaces/0/mtu");
    const auto net = [](const char* keys) {
        return only_problem(R"({"network-interfaces": [{)" + std::string{keys} + "}]}");
    };
    CHECK(net(R"("user": true, "socket": "s")") == "config_value /network-interfaces/0/user");
    CHECK(net(R"("host_dev_name": "t", "socket": "s")") == "config_value /network-interfaces/0/socket");
    CHECK(net(R"("host_dev_name": "t", "host": true)") == "config_value /network-interfaces/0/host");
    CHECK(net(R"("socket": "s", "forward": ["1:2"])") == "config_value /network-interfaces/0/forward");
    CHECK(net(R"("socket": "s", "queue_pairs": 2)") == "config_value /network-interfaces/0/queue_pairs");
    CHECK(net(R"("socket": "")") == "config_value /network-interfaces/0/socket");
    CHECK(net(R"("user": true, "mtu": 1279)") == "config_value /network-interfaces/0/mtu");
    CHECK(net(R"("user": true, "dns": "localhost")") == "config_value /network-interfaces/0/dns");
    CHECK(net(R"("user": true, "forward": "1:2")") == "config_type /network-interfaces/0/forward");
    CHECK(net(R"("user": true, "forward": [1])") == "config_type /network-interfaces/0/forward/0");
    CHECK(net(R"("user": true, "forward": ["1:0"])") == "config_value /network-interfaces/0/forward");
    CHECK(net(R"("user": true, "forward": ["1:2", "0.0.0.0:1:3"])") == "config_value /network-interfaces/0/forward");
    CHECK(parse(R"({"network-interfaces": [{"user": true, "forward": ["1:2", "udp:1:3"]}]})").problems.empty());
    CHECK(net(R"("iface_id": "n")") == "config_missing_key /network-interfaces/0");
    CHECK(net(R"("user": false)") == "config_missing_key /network-interfaces/0");
    CHECK(only_problem(R"({"network-interfaces": [{"host_dev_name": "t", "guest_mac": "zz"}]})") ==
          "config_value /network-interfaces/0/guest_mac");
}

TEST_CASE("as in Firecracker, cpu-config may name a file") {
    const std::string path = "/tmp/inox-cpu-" + std::to_string(::getpid());
    const auto load = [&](const std::string& cpu, Dialect dialect = Dialect::firecracker) {
        if (!cpu.empty())
            std::ofstream{path + "-cpu"} << cpu;
        std::ofstream{path} << R"({"boot-source": {"kernel_image_path": "k"}, "cpu-config": ")" + path + "-cpu\"}";
        return load_config(path, dialect);
    };
    const auto gone = load("");
    CHECK(only_problem(gone) == "config_unreadable /cpu-config");
    const auto good = load(R"({"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0,
        "modifiers": [{"register": "ecx", "bitmap": "0b1"}]}]})");
    CHECK(good.problems.empty());
    CHECK(good.file.config.machine.cpuid.size() == 1);
    CHECK(only_problem(load("{")) == "config_syntax /cpu-config");
    CHECK(only_problem(load(R"({"x": 1})")) == "config_unknown_key /cpu-config/x");
    CHECK(only_problem(load("{}", Dialect::inox)) == "config_type /cpu-config");
    ::unlink(path.c_str());
    ::unlink((path + "-cpu").c_str());
}

TEST_CASE("a refused number is told with its value and the bounds that hold") {
    const std::pair<const char*, const char*> rows[] = {
        {R"({"machine-config": {"vcpu_count": -1}})", "-1 is not a whole number from 1 to 255"},
        {R"({"machine-config": {"vcpu_count": 1.5}})", "expected a whole number from 1 to 255, got 1.5"},
        {R"({"machine-config": {"vcpu_count": "two"}})", "expected a whole number from 1 to 255, got 'two'"},
        {R"({"machine-config": {"vcpu_count": true}})", "expected a whole number from 1 to 255, got true"},
        {R"({"machine-config": {"mem_size_mib": 18446744073709551616}})",
         "18446744073709551616 is not a whole number from 2 to 4194304"},
        {R"({"machine-config": {"mem_size_mib": 1.5}})", "expected a whole number from 2 to 4194304, got 1.5"},
        {R"({"machine-config": {"mem_size_mib": 17592186044415}})",
         "17592186044415 MiB of memory is too much: a guest has 1088 KiB to 4096 GiB"},
        {R"({"machine-config": {"mem_size_mib": 1}})",
         "1 MiB of memory is too little: a guest has 1088 KiB to 4096 GiB"},
        {R"({"machine-config": {"smt": "yes"}})", "expected true or false, got 'yes'"},
        {R"({"machine-config": {"smt": []}})", "expected true or false, got an array"},
        {R"({"inox": {"timeout": -1}})", "'-1' is not a time from 1ms to 366 days"},
        {R"({"inox": {"timeout": 0}})", "'0' is not a time from 1ms to 366 days"},
        {R"({"inox": {"pci_window_64_mib": -2}})", "-2 is not a whole number from 2 to 4294967296"},
        {R"({"inox": {"api_connections": 0}})", "0 is not a whole number from 1 to 4096"},
        {R"({"vfio": [{"host": "0000:01:00.0", "device_fd": -1}]})", "-1 is not a whole number from 3 to 2147483647"},
    };
    for (const auto& [text, what] : rows) {
        INFO(text);
        const auto parsed = parse(text);
        REQUIRE_FALSE(parsed.problems.empty());
        CHECK(parsed.problems.front().what == what);
    }
}

TEST_CASE("a root partition on a disk that is not root is refused, but taken in Firecracker's dialect as there") {
    const auto parsed = parse(R"({"drives": [{"path": "/d", "partuuid": "0eaa91a0-01"}]})");
    CHECK(only_problem(parsed) == "config_value /drives/0/partuuid");
    CHECK(parse(R"({"drives": [{"path": "/d", "partuuid": "0eaa91a0-01", "root": true}]})").problems.empty());
    CHECK(
        parse_config(R"({"boot-source": {"kernel_image_path": "/k"}, "drives": [{"drive_id": "d", "path_on_host": "/d",
                           "is_root_device": false, "partuuid": "0eaa91a0-01"}]})",
                     Dialect::firecracker)
            .problems.empty());
}

TEST_CASE("what a machine without PCI has room for is told for that machine") {
    std::string drives;
    for (int i = 0; i < 32; ++i)
        drives += (i == 0 ? "" : ", ") +
                  std::string{R"({"is_root_device": false, "path_on_host": "/d", "drive_id": "d)"} + std::to_string(i) +
                  "\"}";
    const auto text = R"({"boot-source": {"kernel_image_path": "/k"}, "drives": [)" + drives + "]}";
    const auto parsed = parse_config(text, Dialect::firecracker, Transport::mmio);
    REQUIRE(parsed.problems.size() == 1);
    CHECK(parsed.problems.front().what == "32 devices: a machine without PCI has room for 17");
}

} // namespace inox::config_file_test
