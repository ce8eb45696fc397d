// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/confinement/confinement.hpp"

#include <algorithm>

#include "tests/catch.hpp"

namespace inox::instance_confinement_test {

using confine::Allowed;
using confine::Purpose;

namespace {

ConfigFile parse(const std::string& text) {
    auto parsed = parse_config(text, Dialect::inox);
    for (const auto& problem : parsed.problems)
        FAIL(problem.report());
    return std::move(parsed.file);
}

bool names(const std::string& text, const Allowed& wanted) {
    const auto all = named_paths(parse(text));
    return std::ranges::count(all, wanted) == 1;
}

bool later(const std::string& text) { return opens_later(parse(text)); }

} // namespace

TEST_CASE("a configuration names what may be opened later, and for what") {
    CHECK(names(R"({"boot-source": {"kernel_image_path": "/k"}})", {"/k", Purpose::read}));
    CHECK(names(R"({"boot-source": {"kernel_image_path": "/k", "initrd_path": "/i"}})", {"/i", Purpose::read}));
    CHECK(names(R"({"drives": [{"path_on_host": "/d"}]})", {"/d", Purpose::write}));
    CHECK(names(R"({"drives": [{"path_on_host": "/d", "is_read_only": true}]})", {"/d", Purpose::read}));
    CHECK(names(R"({"drives": [{"path_on_host": "/d", "temporary": true}]})", {"/d", Purpose::read}));
    CHECK(names(R"({"network-interfaces": [{"host_dev_name": "tap7"}]})", {"tap7", Purpose::tap}));
    CHECK(names(R"({"network-interfaces": [{"socket": "/n"}]})", {"/n", Purpose::connect}));
    CHECK(names(R"({"shares": [{"tag": "t", "path": "/s"}]})", {"/s", Purpose::write}));
    CHECK(names(R"({"shares": [{"tag": "t", "path": "/s", "read_only": true}]})", {"/s", Purpose::read}));
    CHECK(names(R"({"shares": [{"tag": "t", "socket": "/s"}]})", {"/s", Purpose::connect}));
    CHECK(names(R"({"vsock": {"guest_cid": 3, "uds_path": "/v"}})", {"/v", Purpose::write}));
    CHECK(names(R"({"vsock": {"guest_cid": 3, "uds_path": "/v"}})", {"/v", Purpose::ports}));
    CHECK(names(R"({"logger": {"log_path": "/l"}})", {"/l", Purpose::write}));
    CHECK(names(R"({"metrics": {"metrics_path": "/m"}})", {"/m", Purpose::write}));
    CHECK(names(R"({"serial": {"serial_out_path": "/o"}})", {"/o", Purpose::write}));
    CHECK(names(R"({"console": {"path": "/c"}})", {"/c", Purpose::write}));
    for (const char* key : {"serial_log", "result", "exits", "dump_on_panic", "api_sock"})
        CHECK(names(format(R"({"inox": {"%s": "/x"}})", key), {"/x", Purpose::write}));
    CHECK(names(R"({"inox": {"boot_timeline": "/x.svg"}})", {"/x.svg", Purpose::write}));
    CHECK(names(R"({"inox": {"symbols": "/x"}})", {"/x", Purpose::read}));
    CHECK(names(R"({"inox": {"gdb": "unix:/g"}})", {"/g", Purpose::write}));
    CHECK(names(R"({"inox": {"allow": ["/a", "/b:ro"]}})", {"/a", Purpose::write}));
    CHECK(names(R"({"inox": {"allow": ["/a", "/b:ro"]}})", {"/b", Purpose::read}));
    CHECK(named_paths(parse("{}")) == std::vector<Allowed>{{"/dev/kvm", Purpose::write}});
}

TEST_CASE("only a run that opens something later has a broker") {
    CHECK_FALSE(later("{}"));
    CHECK_FALSE(later(R"({"boot-source": {"kernel_image_path": "/k", "initrd_path": "/i"},
        "drives": [{"path_on_host": "/d"}], "balloon": {"amount_mib": 1}, "entropy": {}, "logger": {"log_path": "/l"},
        "metrics": {"metrics_path": "/m"}, "serial": {"serial_out_path": "/o"},
        "inox": {"timeout": 5, "expect": "x", "serial_log": "/s", "gdb": "1234"}})"));
    for (const char* text :
         {R"({"inox": {"api_sock": "/a"}})", R"({"inox": {"id": "a"}})", R"({"inox": {"allow": ["/a"]}})",
          R"({"inox": {"on_reboot": "restart"}})", R"({"inox": {"result": "/r"}})", R"({"inox": {"exits": "/r"}})",
          R"({"inox": {"boot_timeline": "/r.svg"}})", R"({"inox": {"dump_on_panic": "/r"}})",
          R"({"inox": {"symbols": "/r"}})", R"({"inox": {"gdb": "unix:/g"}})",
          R"({"network-interfaces": [{"user": true}]})", R"({"network-interfaces": [{"host_dev_name": "tap7"}]})",
          R"({"network-interfaces": [{"socket": "/n"}]})", R"({"shares": [{"tag": "t", "path": "/s"}]})",
          R"({"shares": [{"tag": "t", "socket": "/s"}]})", R"({"vsock": {"guest_cid": 3, "uds_path": "/v"}})"}) {
        CAPTURE(text);
        CHECK(later(text));
    }
}

TEST_CASE("little stays readable without the broker") {
    using Paths = std::vector<std::string>;
    CHECK(readable_paths(parse("{}")) == Paths{"/proc", "/sys/fs/cgroup"});
    CHECK(readable_paths(parse(R"({"drives": [{"path_on_host": "/d"}], "inox": {"allow": ["/srv"]}})")) ==
          Paths{"/proc", "/sys/fs/cgroup", "/etc/resolv.conf", "/run/systemd/resolve"});
    for (const char* path : {"/", "/dev", "/dev/vfio", "/dev/vfio/7", "/dev/iommu"}) {
        CAPTURE(path);
        const auto paths = readable_paths(parse(format(R"({"inox": {"allow": ["%s"]}})", path)));
        CHECK(std::ranges::find(paths, "/sys") != paths.end());
    }
}

} // namespace inox::instance_confinement_test
