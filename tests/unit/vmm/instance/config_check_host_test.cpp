// SPDX-License-Identifier: Apache-2.0
// What `inox check` reports about files, sockets and interfaces of the host, and about rules that concern them.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/catch.hpp"
#include "vmm/base/os.hpp"
#include "vmm/instance/config_check.hpp"

namespace inox::config_check_host_test {

namespace fs = std::filesystem;

namespace {

/// A folder with a disk image, a hard link to it, and a file that is no image.
class Folder {
public:
    Folder() {
        char name[] = "/tmp/inox-check-XXXXXX";
        path_ = ::mkdtemp(name);
        std::ofstream{at("disk")} << std::string(1024, 'x');
        std::ofstream{at("odd")} << "x";
        std::ofstream{at("qcow2")} << "QFI\xfb";
        fs::create_hard_link(at("disk"), at("link"));
        ::mkfifo(at("fifo").c_str(), 0600);
    }
    ~Folder() { fs::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] std::string at(const std::string& name) const { return path_ + "/" + name; }
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> all;
        for (const auto& entry : fs::directory_iterator{path_})
            all.push_back(entry.path().filename());
        std::ranges::sort(all);
        return all;
    }

private:
    std::string path_;
};

/// The problems of `text`, in which ' stands for " and @ for the folder.
std::vector<Error> problems_of(const Folder& folder, std::string text, Transport transport = Transport::pci) {
    std::ranges::replace(text, '\'', '"');
    for (auto at = text.find('@'); at != text.npos; at = text.find('@'))
        text.replace(at, 1, folder.at("").substr(0, folder.at("").size() - 1));
    auto parsed = parse_config(text, Dialect::inox, transport);
    preflight(parsed);
    return parsed.problems;
}

bool has(const std::vector<Error>& problems, Errc code, std::string_view where) {
    return std::ranges::any_of(problems, [&](const Error& one) { return one.code == code && one.where == where; });
}

std::string drives(unsigned count) {
    std::string all;
    for (unsigned i = 0; i < count; ++i)
        all += (i == 0 ? "" : ",") + std::string{"{'path_on_host': '@/disk', 'is_read_only': true}"};
    return "{'drives': [" + all + "]}";
}

} // namespace

TEST_CASE("what a start would refuse is told with its place, and nothing is made") {
    static const std::string long_path = "/tmp/" + std::string(103, 'p');
    struct Row {
        std::string config;
        Errc code;
        std::string where;
    };
    const Row rows[] = {
        {"{'drives': [{'path_on_host': '@/none'}]}", Errc::disk_missing, "/drives/0/path_on_host"},
        {"{'drives': [{'path_on_host': '@'}]}", Errc::disk_invalid, "/drives/0/path_on_host"},
        {"{'drives': [{'path_on_host': '@/fifo'}]}", Errc::disk_invalid, "/drives/0/path_on_host"},
        {"{'drives': [{'path_on_host': '/dev/null'}]}", Errc::disk_invalid, "/drives/0/path_on_host"},
        {"{'drives': [{'path_on_host': '@/qcow2'}]}", Errc::disk_invalid, "/drives/0/path_on_host"},
        {"{'drives': [{'path': '@/disk'}, {'path': '@/disk'}]}", Errc::in_use, "/drives/1/path_on_host"},
        {"{'drives': [{'path': '@/disk'}, {'path': '@/link'}]}", Errc::in_use, "/drives/1/path_on_host"},
        {"{'drives': [{'path': '@/disk'}, {'path': '@/link', 'root': true}]}", Errc::in_use, "/drives/0/path_on_host"},
        {"{'drives': [{'path': '@/disk', 'queues': 0}]}", Errc::config_value, "/drives/0/queues"},
        {"{'drives': [{'path': '@/disk', 'queues': 33}]}", Errc::config_value, "/drives/0/queues"},
        {"{'drives': [{'path': '@/disk', 'serial': '123456789012345678901'}]}", Errc::config_value, "/drives/0/serial"},
        {"{'vsock': {'guest_cid': 3, 'uds_path': '" + long_path + "'}}", Errc::config_value, "/vsock/uds_path"},
        {"{'vsock': {'guest_cid': 3, 'uds_path': '@/no/v'}}", Errc::host_error, "/vsock/uds_path"},
        {"{'vsock': {'guest_cid': 3, 'uds_path': '@/disk'}}", Errc::already_exists, "/vsock/uds_path"},
        {"{'inox': {'api_sock': '" + long_path + "'}}", Errc::config_value, "/inox/api_sock"},
        {"{'network-interfaces': [{'host_dev_name': '1234567890123456'}]}", Errc::config_value,
         "/network-interfaces/0/host_dev_name"},
        {"{'network-interfaces': [{'host_dev_name': 'a/b'}]}", Errc::config_value,
         "/network-interfaces/0/host_dev_name"},
        {"{'network-interfaces': [{'host_dev_name': 'lo'}]}", Errc::host_error, "/network-interfaces/0/host_dev_name"},
        {"{'network-interfaces': [{'host_dev_name': 't', 'queue_pairs': 17}]}", Errc::config_value,
         "/network-interfaces/0/queue_pairs"},
        {"{'shares': [{'tag': 't', 'socket': '@/none'}]}", Errc::not_found, "/shares/0/socket"},
        {"{'shares': [{'tag': 't', 'socket': '@/disk'}]}", Errc::not_found, "/shares/0/socket"},
        {"{'shares': [{'tag': '', 'socket': '@/none'}]}", Errc::config_value, "/shares/0/tag"},
        {"{'shares': [{'tag': 't', 'path': '@/none'}]}", Errc::not_found, "/shares/0/path"},
        {"{'shares': [{'tag': 't', 'path': '@/disk'}]}", Errc::not_found, "/shares/0/path"},
        {"{'shares': [{'tag': 't'}]}", Errc::config_missing_key, "/shares/0"},
        {"{'shares': [{'tag': 't', 'path': '@', 'socket': '@/s'}]}", Errc::config_value, "/shares/0/socket"},
        {"{'shares': [{'tag': 't', 'socket': '@/s', 'ro': true}]}", Errc::config_value, "/shares/0/read_only"},
        {"{'metrics': {'metrics_path': '@/no/m'}}", Errc::output_unwritable, "/metrics/metrics_path"},
        {"{'logger': {'log_path': '@'}}", Errc::output_unwritable, "/logger/log_path"},
        {"{'serial': {'serial_out_path': '@/no/s'}}", Errc::output_unwritable, "/serial/serial_out_path"},
        {"{'inox': {'serial_log': '@/odd/s'}}", Errc::output_unwritable, "/inox/serial_log"},
        {"{'inox': {'boot_timeline': '@/no/t.svg'}}", Errc::output_unwritable, "/inox/boot_timeline"},
        {"{'console': {'path': '@/no/c'}}", Errc::output_unwritable, "/console/path"},
        {"{'mmds-config': {'network_interfaces': ['x']}}", Errc::config_value, "/mmds-config/network_interfaces"},
        {drives(32), Errc::no_resource, "/drives"},
    };
    const Folder folder;
    const auto before = folder.names();
    for (const auto& row : rows) {
        INFO(row.config);
        CHECK(has(problems_of(folder, row.config), row.code, row.where));
    }
    CHECK(folder.names() == before);
}

TEST_CASE("what is there and can be made is good") {
    const Folder folder;
    const UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    folder.at("daemon").copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0); // NOLINT
    REQUIRE(::listen(socket.get(), 1) == 0);
    const auto before = folder.names();
    const auto problems = problems_of(folder, R"({"drives": [{"path": "@/disk", "readonly": true, "queues": 32},
        {"path": "@/link", "readonly": true, "serial": "12345678901234567890"}, {"path": "@/odd"},
        {"path": "@/qcow2", "format": "raw"}],
        "vsock": {"guest_cid": 3, "uds_path": "@/v"}, "shares": [{"tag": "t", "socket": "@/daemon"}, {"tag": "u", "path": "@", "ro": true}],
        "metrics": {"metrics_path": "@/m"}, "logger": {"log_path": "@/fifo"}, "console": {"path": "@/c"},
        "serial": {"serial_out_path": "/dev/null"}, "inox": {"serial_log": "@/s", "boot_timeline": "@/t.json"}})");
    for (const auto& one : problems)
        CHECK(one.where.empty()); // only KVM may be missing
    CHECK(folder.names() == before);
    pollfd waiting{socket.get(), POLLIN, 0};
    CHECK(::poll(&waiting, 1, 0) == 0); // check must not connect: a daemon serves one connection
}

TEST_CASE("a machine without PCI has room for 17 devices") {
    const Folder folder;
    CHECK_FALSE(has(problems_of(folder, drives(17), Transport::mmio), Errc::no_resource, "/drives"));
    CHECK(has(problems_of(folder, drives(18), Transport::mmio), Errc::no_resource, "/drives"));
    CHECK_FALSE(has(problems_of(folder, drives(31)), Errc::no_resource, "/drives"));
}

TEST_CASE("broken rules do not hide what the host lacks") {
    const Folder folder;
    const auto problems = problems_of(folder, R"({"machine-config": {"vcpu_count": "two", "mem_size_mib": 0},
        "boot-source": {"kernel_image_path": "@/none"}, "loger": {},
        "drives": [{"path": "@/none", "queues": 0}, {"path": 7}]})");
    CHECK(has(problems, Errc::config_type, "/machine-config/vcpu_count"));
    CHECK(has(problems, Errc::memory_invalid, "/machine-config/mem_size_mib"));
    CHECK(has(problems, Errc::config_unknown_key, "/loger"));
    CHECK(has(problems, Errc::kernel_missing, "/boot-source/kernel_image_path"));
    CHECK(has(problems, Errc::config_value, "/drives/0/queues"));
    CHECK(has(problems, Errc::disk_missing, "/drives/0/path_on_host"));
    CHECK_FALSE(has(problems, Errc::disk_missing, "/drives/1/path_on_host"));
}

} // namespace inox::config_check_host_test
