// SPDX-License-Identifier: Apache-2.0
// Where Firecracker accepts more than its rules say, and its words where serde or a full machine answers.
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/support/api_client.hpp"
#include "vmm/config/config.hpp"

namespace inox::api_compatibility_test {

using tests::ApiClient;

TEST_CASE("metrics and the state of the machine take unknown fields") {
    ApiClient client;
    CHECK(ApiClient::fault(client.patch("/vm", R"({"state": "Paused", "since": 1})")) ==
          "The requested operation is not supported before starting the microVM.");
    CHECK(ApiClient::fault(client.patch("/vm", R"({"State": "Paused"})")) ==
          ApiClient::json_error("missing field `state` at line 1 column 19"));
    CHECK(ApiClient::fault(client.put("/metrics", R"({"metrics_path": "/dev/null", "emit_id": 1})")) ==
          ApiClient::json_error("invalid type: integer `1`, expected a boolean at line 1 column 42"));
    CHECK(ApiClient::fault(client.put("/metrics", R"({"metrics_path": "/dev/null", "properties": [1]})"))
              .starts_with(ApiClient::json_error("invalid type: sequence, expected an object").substr(0, 100)));
    CHECK(client.put("/metrics", R"({"metrics_path": "/dev/null", "emit_id": true, "properties": {"a": "b"}, "x": 1})")
              .status == 204);
    const auto config = nlohmann::json::parse(client.get("/vm/config").body);
    CHECK(config.at("metrics") ==
          nlohmann::json::parse(R"({"metrics_path": "/dev/null", "emit_id": true, "properties": {"a": "b"}})"));
}

TEST_CASE("values of the wrong type or range are named as serde names them") {
    ApiClient client;
    const auto machine = [&](const std::string& cpus) {
        return ApiClient::fault(client.put("/machine-config", R"({"vcpu_count":)" + cpus + R"(,"mem_size_mib":128})"));
    };
    CHECK(machine("\"2\"") == ApiClient::json_error(R"(invalid type: string "2", expected u8 at line 1 column 17)"));
    CHECK(machine("1.5") ==
          ApiClient::json_error("invalid type: floating point `1.5`, expected u8 at line 1 column 17"));
    CHECK(machine("true") == ApiClient::json_error("invalid type: boolean `true`, expected u8 at line 1 column 18"));
    CHECK(machine("null") == ApiClient::json_error("invalid type: null, expected u8 at line 1 column 18"));
    CHECK(machine("[]") == ApiClient::json_error("invalid type: sequence, expected u8 at line 1 column 16"));
    CHECK(machine("{}") == ApiClient::json_error("invalid type: map, expected u8 at line 1 column 16"));
    CHECK(machine("-1") == ApiClient::json_error("invalid value: integer `-1`, expected u8 at line 1 column 16"));
    CHECK(machine("1e3") ==
          ApiClient::json_error("invalid type: floating point `1000.0`, expected u8 at line 1 column 17"));
    CHECK(machine("0.00125") ==
          ApiClient::json_error("invalid type: floating point `0.00125`, expected u8 at line 1 column 21"));
    const auto memory = [&](const std::string& mib) {
        return ApiClient::fault(client.put("/machine-config", R"({"vcpu_count":1,"mem_size_mib":)" + mib + "}"));
    };
    CHECK(memory("18446744073709551616") ==
          ApiClient::json_error(
              "invalid type: floating point `18446744073709552000.0`, expected usize at line 1 column 51"));
    CHECK(memory("-1e20") ==
          ApiClient::json_error(
              "invalid type: floating point `-100000000000000000000.0`, expected usize at line 1 column 36"));
    CHECK(ApiClient::fault(client.put("/machine-config", R"({"vcpu_count": 1, "mem_size_mib": 1, "smt": 2})")) ==
          ApiClient::json_error("invalid type: integer `2`, expected a boolean at line 1 column 45"));
    CHECK(ApiClient::fault(client.put("/vsock", R"({"guest_cid": "3", "uds_path": "a"})")) ==
          ApiClient::json_error(R"(invalid type: string "3", expected u32 at line 1 column 17)"));
}

TEST_CASE("words that are none of the known ones are named as serde names them") {
    ApiClient client;
    CHECK(ApiClient::fault(client.patch("/vm", R"({"state": "Gone"})")) ==
          ApiClient::json_error("unknown variant `Gone`, expected `Paused` or `Resumed` at line 1 column 16"));
    CHECK(ApiClient::fault(client.put("/actions", R"({"action_type": "Go"})")) ==
          ApiClient::json_error(
              "unknown variant `Go`, expected one of `InstanceStart`, `FlushMetrics`, `SendCtrlAltDel` at line "
              "1 column 20"));
    CHECK(
        ApiClient::fault(client.patch("/machine-config", R"({"huge_pages": "1G"})")) ==
        ApiClient::json_error("unknown variant `1G`, expected one of `None`, `Transparent`, `2M` at line 1 column 19"));
    CHECK(ApiClient::fault(client.put("/logger", R"({"level": "Loud"})")) ==
          ApiClient::json_error(
              "unknown variant `Loud`, expected one of `Off`, `Error`, `Warning`, `Info`, `Debug`, `Trace` at "
              "line 1 column 16"));
}

TEST_CASE("a DELETE with a body is refused, and slashes in front are one") {
    ApiClient client;
    CHECK(ApiClient::fault(client.call(api::Method::del, "/drives/a", "{}")) == "Empty Delete request.");
    CHECK(client.get("//machine-config").body == client.get("/machine-config").body);
    CHECK(client.get("///").body == client.get("/").body);
}

TEST_CASE("more devices than fit are refused at the start, in Firecracker's words") {
    ApiClient client;
    const fakes::TempImage image{4096};
    const auto& path = image.path();
    REQUIRE(client.put("/boot-source", R"({"kernel_image_path": ")" + path + R"("})").status == 204);
    const auto drive = [&](std::size_t i) {
        const auto id = "d" + std::to_string(i);
        return client.put("/drives/" + id, R"({"drive_id": ")" + id +
                                               R"(", "is_root_device": false, "path_on_host": ")" + path + R"("})");
    };
    bool mmio = false;
    SECTION("PCI") {}
    SECTION("virtio-mmio") {
        mmio = true;
        REQUIRE(client.instance()
                    .configure([](ConfigFile& file) { file.config.machine.transport = inox::Transport::mmio; })
                    .has_value());
    }
    const std::size_t room = mmio ? max_mmio_devices : 31;
    for (std::size_t i = 0; i <= room; ++i)
        CHECK(drive(i).status == 204);
    const auto start = client.put("/actions", R"({"action_type": "InstanceStart"})");
    CHECK(ApiClient::fault(start) ==
          (mmio ? "Start microvm error: Could not allocate GSI: The requested resource is not available."
                : "Start microvm error: Could not find an available device slot on the PCI bus."));
    CHECK(start.body.find("use fewer devices") != std::string::npos);
}

TEST_CASE("what nobody configured is null, also an engine that inox chooses") {
    ApiClient client;
    const fakes::TempImage image{4096};
    const auto& path = image.path();
    CHECK(client.put("/drives/a", R"({"drive_id": "a", "is_root_device": false, "path_on_host": ")" + path + R"("})")
              .status == 204);
    const auto config = nlohmann::json::parse(client.get("/vm/config").body);
    CHECK(config.at("logger").is_null());
    CHECK(config.at("drives").at(0).at("io_engine").is_null());
}

TEST_CASE("metadata may be larger than a configuration when the limits allow it") {
    ApiClient client;
    client.instance().mmds().set_limit(3'000'000);
    const std::string large = R"({"a":")" + std::string(2'000'000, 'x') + R"("})";
    CHECK(client.put("/mmds", large).status == 204);
    CHECK(client.get("/mmds").body == large);
}

TEST_CASE("fields inside fields are named themselves") {
    ApiClient client;
    CHECK(ApiClient::fault(client.put("/entropy", R"({"rate_limiter": {"z": 1}})")) ==
          ApiClient::json_error("unknown field `z`, expected `bandwidth` or `ops` at line 1 column 21"));
    CHECK(ApiClient::fault(
              client.put("/entropy", R"({"rate_limiter": {"ops": {"size": 1, "y": 2, "refill_time": 1}}})")) ==
          ApiClient::json_error(
              "unknown field `y`, expected one of `size`, `one_time_burst`, `refill_time` at line 1 column 40"));
}

TEST_CASE("null is as good as absent in a change, and deprecates nothing") {
    ApiClient client;
    CHECK(
        client.patch("/machine-config", R"({"vcpu_count": null, "mem_size_mib": 256, "cpu_template": null})").status ==
        204);
    CHECK_FALSE(client.exchange->response.deprecated);
    CHECK(client.get("/machine-config").body.find(R"("vcpu_count":1,"mem_size_mib":256)") != std::string::npos);
    CHECK(ApiClient::fault(client.patch("/machine-config", R"({"vcpu_count": null})")) == "Empty PATCH request.");
    CHECK(client.put("/vsock", R"({"guest_cid": 3, "uds_path": "/tmp/v", "vsock_id": null})").status == 204);
    CHECK_FALSE(client.exchange->response.deprecated);
}

TEST_CASE("a change knows its own fields only") {
    ApiClient client;
    CHECK(ApiClient::fault(client.patch("/drives/a", R"({"drive_id": "a", "is_root_device": 7})")) ==
          ApiClient::json_error(
              "unknown field `is_root_device`, expected one of `drive_id`, `path_on_host`, `rate_limiter` at "
              "line 1 column 34"));
    CHECK(ApiClient::fault(client.patch("/network-interfaces/a", R"({"iface_id": "a", "guest_mac": "x"})"))
              .find("unknown field `guest_mac`, expected one of `iface_id`") != std::string::npos);
    CHECK(ApiClient::fault(client.patch("/balloon/statistics", R"({"stats_polling_interval_s": 65536})")) ==
          ApiClient::json_error("invalid value: integer `65536`, expected u16 at line 1 column 34"));
}

TEST_CASE("JSON ends where the body ends") {
    ApiClient client;
    const std::string tail{"\0 garbage", 9};
    CHECK(client.put("/mmds", R"({"a": 1})" + tail).status == 400);
    CHECK(ApiClient::fault(client.put("/actions", R"({"action_type": "InstanceStart"})" + tail)) ==
          ApiClient::json_error("not valid JSON: a NUL byte"));
}

TEST_CASE("the configuration reads back as it was given") {
    ApiClient client;
    const fakes::TempImage image{4096};
    const auto& path = image.path();
    const auto same = [&](const char* target, const char* key, const std::string& body) {
        const auto sent = nlohmann::json::parse(body);
        CHECK(client.put(target, body).status == 204);
        auto got = nlohmann::json::parse(client.get("/vm/config").body).at(key);
        got = got.is_array() ? got.at(0) : got;
        for (const auto& [name, value] : sent.items())
            CHECK(got.at(name) == value);
    };
    same("/drives/a", "drives",
         R"({"drive_id": "a", "is_root_device": false, "path_on_host": ")" + path +
             R"(", "queues": 4, "serial": "abc", "io_engine": "Sync", "cache_type": "Unsafe"})");
    same("/cpu-config", "cpu-config",
         R"({"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 1, "modifiers": [
             {"register": "ecx", "bitmap": "0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1"},
             {"register": "edx", "bitmap": "0b0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}]}]})");
    same("/network-interfaces/n", "network-interfaces",
         R"({"iface_id": "n", "host_dev_name": "inox-w0", "queue_pairs": 2})");
    REQUIRE(client.instance()
                .configure([](ConfigFile& file) {
                    put_device(file.config, IommuConfig{});
                    file.config.pasid.emplace().quota = 5;
                    put_device(file.config, ConsoleConfig{});
                })
                .has_value());
    const auto whole = nlohmann::json::parse(client.get("/vm/config").body);
    CHECK(whole.at("pasid").at("quota") == 5);
    CHECK(whole.at("iommu").at("bypass") == true);
    CHECK(whole.contains("console"));
}

TEST_CASE("what is plugged in has the path's id, and refusals name no columns of a text nobody sent") {
    ApiClient client;
    CHECK(ApiClient::fault(client.put("/inox/devices/q", R"({"disk": {"path_on_host": "/x", "drive_id": "other"}})")) ==
          "The id from the path does not match the id from the body!");
    CHECK(ApiClient::fault(client.put("/inox/devices/5", R"({"disk": {"path_on_host": "/x", "drive_id": 5}})")) ==
          "The id from the path does not match the id from the body!");
    CHECK(ApiClient::fault(client.put("/inox/devices/q", R"({"disk": {}})")) ==
          ApiClient::json_error("missing field `path_on_host`"));
    CHECK(client.get("/inox/nothing").status == 404);
    CHECK(ApiClient::fault(
              client.put("/device-passthrough/w", R"({"id": "w", "sbdf": "/sys/bus/pci/devices/0000:00:00.0"})"))
              .find("Invalid device passthrough SBDF: /sys") != std::string::npos);
}

TEST_CASE("ids of plugged devices have the configuration's rule") {
    ApiClient client;
    const auto answer = client.put("/inox/devices/" + std::string(65, 'a'), R"({"entropy": {}})");
    CHECK(answer.status == 400);
    CHECK(ApiClient::fault(answer).ends_with("is not an id"));
    CHECK(ApiClient::fault(client.put("/mmds", "{\"password\": \"hunter2\n\"}")).find("hunter2") == std::string::npos);
    CHECK(ApiClient::fault(client.put("/mmds", "\xef\xbb\xbf{}")) ==
          ApiClient::json_error("not valid JSON: a byte order mark"));
    CHECK(ApiClient::fault(
              client.put("/entropy", R"({"rate_limiter": {"ops": {"size": 1, "refill_time": 4294967296}}})")) ==
          ApiClient::json_error(
              "invalid value: 4294967296 is not a whole number from 0 to 4294967295 at line 1 column 62"));
}

} // namespace inox::api_compatibility_test
