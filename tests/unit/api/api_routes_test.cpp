// SPDX-License-Identifier: Apache-2.0
// Firecracker's rules and words, request by request, before the start of the guest.
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/support/api_client.hpp"
#include "tests/support/contract.hpp"

namespace inox::api_routes_test {

using tests::ApiClient;

TEST_CASE("the contract and the routes name the same operations") {
    std::set<std::string> routes;
    for (const auto& route : api::routes())
        CHECK(routes.insert(std::string{api::method_name(route.method)} + " " + std::string{route.path}).second);
    CHECK(tests::Contract{}.operations() == routes);
}

TEST_CASE("a new instance says who it is") {
    ApiClient client;
    CHECK(client.get("/").body ==
          R"({"id":"test-vm","state":"Not started","vmm_version":"1.17.0","app_name":"Firecracker"})");
    CHECK(client.get("/version").status == 200);
    CHECK(client.get("/machine-config").body ==
          R"({"vcpu_count":1,"mem_size_mib":128,"smt":false,"track_dirty_pages":false,"huge_pages":"None"})");
    CHECK(client.get("/vm/config").status == 200);
    CHECK(client.get("/inox/status").status == 200);
    CHECK(client.get("/inox/openapi.json").body.starts_with("{\"openapi\":"));
}

TEST_CASE("paths and methods that do not exist are refused with the method and the first part of the path") {
    ApiClient client;
    CHECK(ApiClient::fault(client.patch("/boot-source", "{}")) ==
          "Invalid request method and/or path: PATCH boot-source.");
    CHECK(ApiClient::fault(client.put("/nothing/here", "{}")) == "Invalid request method and/or path: PUT nothing.");
    CHECK(ApiClient::fault(client.get("/drives/../etc")) == "Invalid request method and/or path: GET drives.");
    CHECK(ApiClient::fault(client.call(api::Method::get, "/", "{}")) == "GET request cannot have a body.");
    CHECK(ApiClient::fault(client.put("/vsock", "")) == "Empty PUT request.");
    CHECK(ApiClient::fault(client.patch("/vm", "")) == "Empty PATCH request.");
}

TEST_CASE("ids of the path are letters, digits and underscores, and match the body's") {
    ApiClient client;
    const auto body = R"({"drive_id": "a", "is_root_device": false, "path_on_host": "/nonexistent"})";
    CHECK(ApiClient::fault(client.put("/drives/", body)) == "The ID cannot be empty.");
    CHECK(ApiClient::fault(client.put("/drives", body)) == "The ID cannot be empty.");
    const std::string alphabet = "API Resource IDs can only contain alphanumeric characters and underscores.";
    for (const char* id : {"a-b", "..", "a%2fb", "%2e%2e", "a b", "\xc3\xa4"})
        CHECK(ApiClient::fault(client.put(std::string{"/drives/"} + id, body)) == alphabet);
    CHECK(ApiClient::fault(client.put("/drives/b", body)) ==
          "The id from the path does not match the id from the body!");
    CHECK(ApiClient::fault(client.put("/network-interfaces/b", R"({"iface_id": "a", "host_dev_name": "t"})")) ==
          "The id from the path [b] does not match the id from the body [a]!");
    CHECK(ApiClient::fault(client.put("/device-passthrough/b", R"({"id": "a", "sbdf": "01:00.0"})")) ==
          "The id from the path does not match the id from the body!");
}

TEST_CASE("bodies that do not fit are refused in serde's words, with the place") {
    ApiClient client;
    CHECK(ApiClient::fault(client.put("/machine-config", R"({"mem_size_mib": 128})")) ==
          ApiClient::json_error("missing field `vcpu_count` at line 1 column 21"));
    CHECK(ApiClient::fault(client.put("/drives/a", R"({"drive_id": "a", "x": 1, "is_root_device": true})")) ==
          ApiClient::json_error(
              "unknown field `x`, expected one of `drive_id`, `partuuid`, `is_root_device`, `cache_type`, "
              "`is_read_only`, `path_on_host`, `rate_limiter`, `io_engine`, `socket`, `queues`, `serial`, `temporary`, "
              "`format` at line 1 column 21"));
    CHECK(ApiClient::fault(client.put("/actions", R"({"action": "x"})")) ==
          ApiClient::json_error("unknown field `action`, expected `action_type` at line 1 column 9"));
    CHECK(ApiClient::fault(client.put("/boot-source", "{\"kernel_image_path\":\n 5}")) ==
          ApiClient::json_error("invalid type: integer `5`, expected a string at line 2 column 2"));
    CHECK(ApiClient::fault(client.put("/vsock", "{")).starts_with(ApiClient::json_error("").substr(0, 60)));
    CHECK(ApiClient::fault(client.put("/vsock", R"({"guest_cid": 3, "guest_cid": 4, "uds_path": "a"})")) ==
          ApiClient::json_error("duplicate field `guest_cid`"));
    CHECK(client.put("/vsock", std::string(2000, '[')).status == 400);
    CHECK(client.put("/vsock", "{\"uds_path\": \"\xff\xfe\", \"guest_cid\": 3}").status == 400);
    CHECK(client.put("/vsock", R"({"uds_path": "a", "guest_cid": 99999999999999999999999})").status == 400);
    CHECK(client.put("/machine-config", R"({"vcpu_count": -1, "mem_size_mib": 128})").status == 400);
    CHECK(client.put("/machine-config", R"({"vcpu_count": 1.5, "mem_size_mib": 128})").status == 400);
}

TEST_CASE("machine-config keeps what it is told and refuses what Firecracker refuses") {
    ApiClient client;
    CHECK(client.put("/machine-config", R"({"vcpu_count": 2, "mem_size_mib": 256, "smt": true})").status == 204);
    CHECK(client.patch("/machine-config", R"({"mem_size_mib": 512})").status == 204);
    CHECK(client.get("/machine-config").body ==
          R"({"vcpu_count":2,"mem_size_mib":512,"smt":true,"track_dirty_pages":false,"huge_pages":"None"})");
    const std::string cpus = "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must "
                             "be 1 or an even number if SMT is enabled.";
    CHECK(ApiClient::fault(client.patch("/machine-config", R"({"vcpu_count": 0})")) == cpus);
    CHECK(ApiClient::fault(client.patch("/machine-config", R"({"vcpu_count": 33})")) == cpus);
    CHECK(ApiClient::fault(client.patch("/machine-config", R"({"vcpu_count": 3})")) == cpus);
    CHECK(ApiClient::fault(client.patch("/machine-config", R"({"mem_size_mib": 0})")) ==
          "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size.");
    CHECK(ApiClient::fault(client.patch("/machine-config", "{}")) == "Empty PATCH request.");
    CHECK(client.patch("/machine-config", R"({"vcpu_count": 4})").status == 204);
    CHECK(client.put("/machine-config", R"({"vcpu_count": 1, "mem_size_mib": 64, "cpu_template": "None"})").deprecated);
    CHECK(ApiClient::fault(client.patch("/machine-config", R"({"cpu_template": "T2"})"))
              .starts_with("The requested operation is not supported: "));
}

TEST_CASE("files are looked at when they are named") {
    ApiClient client;
    CHECK(ApiClient::fault(client.put("/boot-source", R"({"kernel_image_path": "/nonexistent"})")) ==
          "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)");
    const fakes::TempImage kernel{4096};
    CHECK(
        ApiClient::fault(client.put("/boot-source", R"({"kernel_image_path": ")" + kernel.path() +
                                                        R"(", "initrd_path": "/nonexistent"})")) ==
        "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. No such file "
        "or directory (os error 2)");
    CHECK(client.put("/boot-source", R"({"kernel_image_path": ")" + kernel.path() + R"("})").status == 204);
    CHECK(client.get("/vm/config").body.find(R"("boot_args":null)") != std::string::npos);
    CHECK(client.instance().file().config.boot.cmdline == firecracker_cmdline);
    CHECK(ApiClient::fault(
              client.put("/drives/a", R"({"drive_id": "a", "is_root_device": true, "path_on_host": "foo.bar"})")) ==
          "Drive config error: Unable to create the virtio block device: Virtio backend error: Error manipulating the "
          "backing file: No such file or directory (os error 2) foo.bar");
    CHECK(ApiClient::fault(client.put("/drives/a", R"({"drive_id": "a", "is_root_device": true})")) ==
          "Drive config error: Unable to create the virtio block device: Invalid block config.");
}

TEST_CASE("drives are replaced by id, and one of them is the root") {
    ApiClient client;
    const fakes::TempImage image{4096};
    const auto drive = [&](const std::string& id, bool root) {
        return client.put("/drives/" + id, R"({"drive_id": ")" + id + R"(", "path_on_host": ")" + image.path() +
                                               R"(", "is_root_device": )" + (root ? "true}" : "false}"));
    };
    CHECK(drive("a", true).status == 204);
    CHECK(drive("a", true).status == 204);
    CHECK(ApiClient::fault(drive("b", true)) == "Drive config error: A root block device already exists!");
    CHECK(drive("a", false).status == 204);
    CHECK(drive("b", true).status == 204);
    CHECK(devices_of<DriveConfig>(client.instance().file().config).size() == 2);
    CHECK(client.get("/vm/config").status == 200);
}

TEST_CASE("vsock, entropy, balloon, serial and cpu-config are stored") {
    ApiClient client;
    CHECK(client.put("/vsock", R"({"guest_cid": 3, "uds_path": "/tmp/v"})").deprecated == false);
    CHECK(client.put("/vsock", R"({"guest_cid": 3, "uds_path": "/tmp/v", "vsock_id": "v"})").deprecated);
    CHECK(client.put("/vsock", R"({"guest_cid": 2, "uds_path": "/tmp/v"})").status == 400);
    CHECK(client.put("/entropy", R"({"rate_limiter": {"bandwidth": {"size": 100, "refill_time": 10}}})").status == 204);
    CHECK(client.put("/entropy", "{}").status == 204);
    CHECK(client.get("/balloon").status == 400);
    // The memory for this balloon may still be configured.
    CHECK(client.put("/balloon", R"({"amount_mib": 200, "deflate_on_oom": true})").status == 204);
    CHECK(client.put("/machine-config", R"({"vcpu_count": 1, "mem_size_mib": 512})").status == 204);
    CHECK(client.put("/balloon", R"({"amount_mib": 10, "deflate_on_oom": true})").status == 204);
    CHECK(client.get("/balloon").body == R"({"amount_mib":10,"deflate_on_oom":true,"stats_polling_interval_s":0,)"
                                         R"("free_page_hinting":false,"free_page_reporting":false})");
    CHECK(client.put("/serial", R"({"serial_out_path": "/tmp/x", "rate_limiter": {"size": 9, "refill_time": 1}})")
              .status == 204);
    CHECK(client
              .put("/cpu-config", R"({"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers":
                    [{"register": "ecx", "bitmap": "0b0000000000000000000000000000010x"}]}]})")
              .status == 204);
    const auto& cpuid = client.instance().file().config.machine.cpuid;
    REQUIRE(cpuid.size() == 1);
    CHECK((cpuid[0] == boot::CpuidModifier{1, 0, boot::CpuidModifier::Register::ecx, 0xfffffffe, 4}));
    CHECK(client.put("/cpu-config", R"({"msr_modifiers": [{"addr": "0x10"}]})").status == 400);
    CHECK(client.put("/cpu-config", R"({"cpuid_modifiers": [{"leaf": "zero"}]})").status == 400);
    CHECK(client.get("/vm/config").status == 200);
    CHECK(client.get("/vm/config").body.find(R"("bitmap":"0b0000000000000000000000000000010x")") != std::string::npos);
}

TEST_CASE("what needs a running guest is refused before the start") {
    ApiClient client;
    const std::string early = "The requested operation is not supported before starting the microVM.";
    for (const auto& [path, body] : std::initializer_list<std::pair<const char*, const char*>>{
             {"/vm", R"({"state": "Paused"})"},
             {"/drives/a", R"({"drive_id": "a", "path_on_host": "x"})"},
             {"/network-interfaces/a", R"({"iface_id": "a"})"},
             {"/balloon", R"({"amount_mib": 1})"},
             {"/balloon/statistics", R"({"stats_polling_interval_s": 1})"},
             {"/balloon/hinting/start", "{}"},
             {"/balloon/hinting/stop", ""}})
        CHECK(ApiClient::fault(client.patch(path, body)) == early);
    for (const char* action : {"FlushMetrics", "SendCtrlAltDel"})
        CHECK(ApiClient::fault(client.put("/actions", std::string{R"({"action_type": ")"} + action + "\"}")) == early);
    CHECK(ApiClient::fault(client.get("/balloon/statistics")) == early);
    CHECK(ApiClient::fault(client.del("/drives/a")) == early);
    CHECK(ApiClient::fault(client.del("/network-interfaces/a")) == early);
    CHECK(ApiClient::fault(client.del("/inox/devices/a")) == early);
    CHECK(ApiClient::fault(client.put("/actions", R"({"action_type": "InstanceStart"})")) ==
          "Start microvm error: Cannot start microvm without kernel configuration.");
    CHECK(client.put("/actions", R"({"action_type": "Explode"})").status == 400);
    CHECK(client.patch("/vm", R"({"state": "Asleep"})").status == 400);
}

TEST_CASE("what inox does not have says so") {
    ApiClient client;
    for (const char* path : {"/pmem/a", "/hotplug/memory"}) {
        const auto response = client.put(path, "{}");
        CHECK(ApiClient::fault(response).find("not in this version of inox") != std::string::npos);
        CHECK(nlohmann::json::parse(response.body).at("code") == "unsupported");
    }
    CHECK(client.del("/pmem/a").status == 400);
    CHECK(client.get("/hotplug/memory").status == 400);
}

TEST_CASE("a snapshot is created of a guest, and loaded in place of one") {
    ApiClient client;
    const char* files = R"({"snapshot_path": "/none/s", "mem_file_path": "/none/m"})";
    CHECK(ApiClient::fault(client.put("/snapshot/create", files)) ==
          "The requested operation is not supported before starting the microVM.");
    CHECK(ApiClient::fault(client.put("/snapshot/create", R"({"snapshot_path": "s"})"))
              .find("missing field `mem_file_path`") != std::string::npos);
    CHECK(ApiClient::fault(client.put("/snapshot/create", R"({"snapshot_path": "s", "mem_file_path": "m",
                                                              "snapshot_type": "Half"})"))
              .find("Half") != std::string::npos);
    const auto load = [&](const char* body) { return ApiClient::fault(client.put("/snapshot/load", body)); };
    CHECK(load(R"({"snapshot_path": "s"})") == "missing field: either `mem_backend` or `mem_file_path` is required");
    CHECK(load(R"({"snapshot_path": "s", "mem_file_path": "m", "mem_backend": {"backend_type": "File",
                   "backend_path": "m"}})") ==
          "too many fields: either `mem_backend` or `mem_file_path` exclusively is required.");
    CHECK(load(R"({"snapshot_path": "s", "mem_file_path": "m", "colour": 1})").find("unknown field `colour`") !=
          std::string::npos);
    CHECK(load(R"({"snapshot_path": "s", "mem_backend": {"backend_type": "Uffd"}})")
              .find("missing field `backend_path`") != std::string::npos);
    REQUIRE(
        client.put("/drives/a", R"({"drive_id": "a", "path_on_host": "/dev/null", "is_root_device": false})").status ==
        204);
    CHECK(load(files) == "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific "
                         "resources.");
}

TEST_CASE("metadata is put, patched, read and limited") {
    ApiClient client;
    CHECK(client.get("/mmds").body == "{}");
    CHECK(ApiClient::fault(client.patch("/mmds", R"({"a": 1})")) ==
          "MMDS error: The MMDS data store is not initialized.");
    CHECK(client.put("/mmds", R"({"a": {"b": 1, "c": "x"}})").status == 204);
    CHECK(client.patch("/mmds", R"({"a": {"b": null}, "d": [1]})").status == 204);
    CHECK(client.get("/mmds").body == R"({"a":{"c":"x"},"d":[1]})");
    CHECK(client.put("/mmds", "[1]").status == 400);
    const auto large = client.put("/mmds", R"({"a": ")" + std::string(51200, 'x') + "\"}");
    CHECK(large.status == 413);
    CHECK(ApiClient::fault(large) == "MMDS limit exceeded error: The MMDS patch request doesn't fit.");
    CHECK(client.get("/mmds").body == R"({"a":{"c":"x"},"d":[1]})");
    CHECK(ApiClient::fault(client.put("/mmds/config", R"({"network_interfaces": []})")) ==
          "MMMDS config error: The list of network interface IDs that allow forwarding MMDS requests is empty.");
    CHECK(client.put("/mmds/config", R"({"network_interfaces": ["1"]})").deprecated);
    CHECK_FALSE(client.put("/mmds/config", R"({"network_interfaces": ["1"], "version": "V2"})").deprecated);
    CHECK(client.put("/mmds/config", R"({"network_interfaces": ["1"], "ipv4_address": "8.8.8.8"})").status == 400);
}

TEST_CASE("collections are paged, and what is not there has its own status") {
    ApiClient client;
    CHECK(client.get("/inox/devices?offset=5&limit=2").body == R"({"items":[],"offset":5,"total":0})");
    CHECK(client.get("/inox/devices?limit=x").status == 400);
    CHECK(client.get("/inox/devices/none").status == 404);
    CHECK(client.get("/inox/irqs").status == 200);
    CHECK(client.get("/inox/iommu").body == R"({"present":false})");
    CHECK(client.get("/inox/iommu?domain=1").status == 404);
    CHECK(client.get("/inox/iommu?domain=x").status == 400);
    CHECK(client.get("/inox/pasids").body == R"({"present":false})");
    CHECK(client.get("/inox/pasids?limit=3").body == R"({"items":[],"offset":0,"total":0})");
    const auto metrics = client.get("/inox/metrics");
    CHECK(metrics.body.find("# TYPE inox_logger_missed_log_count_total counter") != std::string::npos);
}

TEST_CASE("events are streamed from the number asked for, and a reader that left is forgotten") {
    ApiClient client;
    client.instance().events().publish("one");
    client.instance().events().publish("two",
                                       {{"id", "a\"b"}, {"endpoint", std::uint64_t{24}}, {"crash_kernel", true}});
    client.get("/inox/events?since=1");
    const auto stream = client.exchange->pieces;
    REQUIRE(stream);
    CHECK(stream->text.find("\"one\"") == std::string::npos);
    CHECK(stream->text.find(R"("sequence":2,)") != std::string::npos);
    CHECK(stream->text.find(R"("id":"a\"b","endpoint":24,"crash_kernel":true})") != std::string::npos);
    client.instance().events().publish("three");
    const auto line = stream->text.substr(stream->text.find('\n') + 1);
    CHECK(nlohmann::json::parse(line).at("event") == "three");
    const auto& schema = client.contract().root().at("components").at("schemas").at("Event");
    CHECK(client.contract().check(nlohmann::json::parse(line), schema, "") == "");
    stream->open = false;
    client.instance().events().publish("four");
    client.instance().events().publish("five");
    CHECK(stream->text.find("five") == std::string::npos);
    CHECK(client.get("/inox/events?since=x").status == 400);
}

TEST_CASE("the last event says why all is over") {
    using How = GuestEnd::How;
    const auto last = [](const GuestEnd& end) {
        ApiClient client;
        client.get("/inox/events");
        client.instance().end(end);
        const auto line = nlohmann::json::parse(client.exchange->pieces->text);
        CHECK(client.contract().check(line, client.contract().root().at("components").at("schemas").at("Event"), "") ==
              "");
        CHECK(line.at("event") == "ended");
        return line;
    };
    const auto terminated = last({How::stopped, 0, Error{Errc::terminated, "by a signal", {}, {}, 0}});
    CHECK(terminated.at("how") == "stopped");
    CHECK(terminated.at("code") == "terminated");
    CHECK(terminated.at("what") == "by a signal");
    CHECK(last({How::exited, 7}).at("exit_code") == 7);
    CHECK(last({How::stopped, 0, {}, "Ctrl-A X"}).at("what") == "Ctrl-A X");
    CHECK_FALSE(last({How::powered_off}).contains("what"));
}

TEST_CASE("one reader of events too many is told so") {
    ApiClient client;
    client.streams_full = true;
    const auto response = client.get("/inox/events");
    CHECK(response.status == 503);
    CHECK(ApiClient::fault(response) == "there are 16 readers of events already: that is the limit");
    CHECK(nlohmann::json::parse(response.body).at("code") == "no_resource");
    CHECK(client.instance().events().recent().empty());
}

TEST_CASE("devices without end are not stored before the start") {
    const fakes::TempImage image{4096};
    ApiClient client;
    const auto store = [&](int number) {
        const auto id = "d" + std::to_string(number);
        return client
            .put("/drives/" + id,
                 R"({"drive_id": ")" + id + R"(", "is_root_device": false, "path_on_host": ")" + image.path() + R"("})")
            .status;
    };
    for (int i = 0; i < 64; ++i)
        CHECK(store(i) == 204);
    CHECK(store(64) == 400);
    CHECK(store(3) == 204); // in place of one that is there
}

TEST_CASE("a device to plug in is of one kind") {
    ApiClient client;
    const auto fault = [&](const char* body) { return ApiClient::fault(client.put("/inox/devices/a", body)); };
    CHECK(fault(R"({"disk": {}, "net": {}})") == "the body names 2 kinds of device where it takes one: 'disk', 'net'");
    CHECK(fault("{}") == "the body names no kind of device");
    CHECK(fault("[]") == "the body names no kind of device");
    CHECK(fault(R"({"floppy": {}})") == "'floppy' is not a kind of device that can be plugged in");
    CHECK(fault(R"({"vfio": {"host": "0000:01:00.0", "backend": "x"}})").find("auto") != std::string::npos);
    CHECK(fault(R"({"vfio": {"host": "0000:01:00.0", "backend": "iommufd", "rom": false, "group_fd": 7}})") ==
          "The requested operation is not supported before starting the microVM.");
}

} // namespace inox::api_routes_test
