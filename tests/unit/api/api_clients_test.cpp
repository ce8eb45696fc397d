// SPDX-License-Identifier: Apache-2.0
// What each known client sends before the start, in its own order and words.
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/support/api_client.hpp"
#include "vmm/base/log.hpp"

namespace inox::api_clients_test {

using api::Method;
using tests::ApiClient;

namespace {

/// The files that clients name. At the end the log goes back to standard error.
struct Host {
    fakes::TempImage kernel{4096};
    fakes::TempImage image{4096};
    std::string base{"/tmp/inox-api-" + std::to_string(::getpid())};
    log::Style style{log::style()};
    std::string boot{R"({"kernel_image_path": ")" + kernel.path() +
                     R"(", "boot_args": "console=ttyS0 reboot=k panic=1"})"};
    std::string drive{R"({"drive_id": "rootfs", "path_on_host": ")" + image.path() +
                      R"(", "is_root_device": true, "is_read_only": false, "cache_type": "Unsafe", "io_engine": "Sync",
                          "partuuid": "", "rate_limiter": null})"};
    std::string logger{R"({"log_path": ")" + base +
                       R"(.log", "level": "Info", "show_level": true, "show_log_origin": false})"};
    std::string metrics{R"({"metrics_path": ")" + base + R"(.metrics"})"};
    std::string machine{R"({"vcpu_count": 1, "mem_size_mib": 512, "smt": false, "track_dirty_pages": false})"};

    ~Host() {
        log::set_style(style);
        log::set_level(log::Level::warning);
        log::set_sink(STDERR_FILENO);
        for (const char* ending : {".log", ".metrics"})
            ::unlink((base + ending).c_str());
    }
};

struct Sent {
    Method method{};
    std::string path{};
    std::string body{};
    std::string fault{}; ///< a part of the refusal; empty when it is accepted
    /// Accepted, or refused with `fault`, depending on the host.
    bool either{};
};

Sent get(std::string path) { return {Method::get, std::move(path)}; }
Sent put(std::string path, std::string body, std::string fault = {}) {
    return {Method::put, std::move(path), std::move(body), std::move(fault)};
}
Sent patch(std::string path, std::string body) { return {Method::patch, std::move(path), std::move(body)}; }
/// Accepted, or Firecracker's text where this user can neither find nor make the tap.
Sent interface(const std::string& id) {
    return {Method::put, "/network-interfaces/" + id,
            R"({"iface_id": ")" + id + R"(", "host_dev_name": "inox-none", "guest_mac": "06:00:ac:10:00:02",
                "rx_rate_limiter": null, "tx_rate_limiter": null})",
            "Network config error: Could not create the network device: ", true};
}

void in_order(std::initializer_list<Sent> requests) {
    ApiClient client;
    for (const auto& sent : requests) {
        const auto answer = client.call(sent.method, sent.path, sent.body);
        INFO(api::method_name(sent.method) << " " << sent.path << " " << sent.body << ": " << answer.body);
        const bool taken = answer.status == (sent.method == Method::get ? 200 : 204);
        if (sent.fault.empty() || (sent.either && taken))
            CHECK(taken);
        else
            CHECK(ApiClient::fault(answer).find(sent.fault) != std::string::npos);
    }
}

} // namespace

TEST_CASE("firecracker-go-sdk, and so firectl, containerd and kata: its requests are taken in their order") {
    const Host host;
    in_order({get("/machine-config"), put("/logger", host.logger), put("/metrics", host.metrics),
              put("/metrics", R"({"metrics_path": "x"})", "metrics"), put("/machine-config", host.machine),
              get("/machine-config"), put("/boot-source", host.boot), put("/drives/rootfs", host.drive), interface("1"),
              put("/vsock", R"({"guest_cid": 3, "uds_path": "/tmp/v.sock", "vsock_id": "1"})"),
              put("/mmds/config", R"({"network_interfaces": ["1"], "version": "V2"})"),
              put("/mmds", R"({"latest": {}})")}); // firectl sends it after the start
}

TEST_CASE("firecracker-go-sdk may load a snapshot, but not after it named devices") {
    const Host host;
    in_order({put("/logger", host.logger), put("/metrics", host.metrics),
              put("/vsock", R"({"guest_cid": 3, "uds_path": "/tmp/v.sock", "vsock_id": "1"})"),
              put("/snapshot/load", R"({"snapshot_path": "s", "mem_file_path": "m"})",
                  "not allowed after configuring boot-specific resources")});
}

TEST_CASE("ignite's old word for hyper-threading is refused, as it is by Firecracker") {
    in_order({put("/machine-config", R"({"vcpu_count": 1, "mem_size_mib": 512, "ht_enabled": true})",
                  "unknown field `ht_enabled`")});
}

TEST_CASE("firecracker-python: its requests are taken in their order") {
    const Host host;
    in_order({get("/"), put("/boot-source", host.boot), put("/drives/rootfs", host.drive),
              put("/machine-config", R"({"vcpu_count": 1, "mem_size_mib": 512})"), interface("eth0"),
              put("/mmds/config", R"({"version": "V2", "network_interfaces": ["eth0"]})"),
              put("/mmds", R"({"latest": {"meta-data": {"instance-id": "i"}}})"),
              put("/vsock", R"({"guest_cid": 3, "uds_path": "/tmp/v.sock"})")});
}

TEST_CASE("Firecracker's own test framework: its requests are taken in their order") {
    const Host host;
    in_order({put("/serial", R"({"serial_out_path": "/tmp/serial.log"})"), get("/"),
              put("/machine-config", R"({"vcpu_count": 2, "mem_size_mib": 256, "smt": false,
                  "track_dirty_pages": false, "huge_pages": "None"})"),
              put("/boot-source", host.boot), put("/drives/rootfs", host.drive)});
}

// The client itself, from configuration to the guest's end: tests/cli/firecrackerode_test.sh.
TEST_CASE("firecrackerode: its requests are taken in their order") {
    const Host host;
    in_order({get("/"), put("/boot-source", host.boot), put("/drives/rootfs", host.drive),
              patch("/machine-config", R"({"mem_size_mib": 256})"), put("/mmds", "{}"),
              patch("/mmds/", R"({"a": 1})"), // this client's path ends with a slash
              // The example of its documentation, with Firecracker's answer
              put("/drives/rootfs", R"({"path_on_host": "x", "is_root_device": true})",
                  "missing field `drive_id` at line 1 column 45")});
}

TEST_CASE("fctools: its requests are taken in their order") {
    const Host host;
    in_order({put("/boot-source", host.boot), put("/drives/rootfs", host.drive),
              put("/pmem/p", R"({"id": "p", "path_on_host": "x"})", "not in this version"),
              put("/machine-config", R"({"vcpu_count": 1, "mem_size_mib": 128})"),
              put("/cpu-config", R"({"kvm_capabilities": [], "cpuid_modifiers": [], "msr_modifiers": []})"),
              interface("net1"),
              put("/balloon", R"({"amount_mib": 64, "deflate_on_oom": false, "stats_polling_interval_s": 1})"),
              put("/vsock", R"({"guest_cid": 5, "uds_path": "/tmp/v.sock"})"), put("/logger", host.logger),
              put("/metrics", host.metrics),
              put("/mmds/config", R"({"network_interfaces": ["net1"], "version": "V1"})"),
              put("/entropy", R"({"rate_limiter": null})")});
}

} // namespace inox::api_clients_test
