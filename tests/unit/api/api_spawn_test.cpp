// SPDX-License-Identifier: Apache-2.0
// What a template is asked for.
#include "api/json_spawn.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "tests/catch.hpp"

namespace inox::api_spawn_test {

using namespace api;
using devices::virtio::VsockOptions;

namespace {

std::string code_of(std::string_view body) {
    const auto count = read_spawn_count(body);
    if (!count)
        return std::string{error_name(count.error().code)};
    auto asked = read_spawn(body, 1, *count, {});
    return asked ? "good" : std::string{error_name(asked.error().code)};
}

} // namespace

TEST_CASE("a clone has what its request names") {
    auto asked = read_spawn(
        R"({"id": "c1", "api_sock": "/tmp/s", "serial_log": "/tmp/l", "paused": true, "clock": "realtime",
            "drives": [{"drive_id": "root", "path_on_host": "/d"}], "vsock": {"guest_cid": 7, "uds_path": "/v"}})",
        1, 1, {});
    REQUIRE(asked);
    CHECK(asked->names.api.id == "c1");
    CHECK(asked->names.api.socket == "/tmp/s");
    CHECK(asked->names.run.serial_log == "/tmp/l");
    CHECK(asked->paused);
    CHECK(asked->clock == RestoredClock::real_time);
    CHECK(find_device<DriveConfig>(asked->names.config, "root")->block.path == "/d");
    CHECK(device_of<VsockOptions>(asked->names.config)->guest_cid == 7);
    CHECK(read_spawn("{}", 1, 1, {})->names.config.devices.empty());
}

TEST_CASE("{n} is the number of a clone, and an id gets one") {
    constexpr std::string_view body = R"({"count": 3, "id": "c", "api_sock": "/tmp/{n}/{n}.sock"})";
    REQUIRE(*read_spawn_count(body) == 3);
    const auto second = read_spawn(body, 2, 3, {});
    REQUIRE(second);
    CHECK(second->names.api.id == "c-2");
    CHECK(second->names.api.socket == "/tmp/2/2.sock");
    CHECK(read_spawn(R"({"id": "x{n}y", "count": 12})", 12, 12, {})->names.api.id == "x12y");
    CHECK(read_spawn(R"({"id": "c"})", 1, 1, {})->names.api.id == "c");
}

TEST_CASE("a descriptor that came along stands in the place of a path") {
    std::vector<UniqueFd> descriptors(1);
    descriptors[0].reset(::open("/dev/null", O_RDWR | O_CLOEXEC)); // NOLINT(*-vararg)
    const auto number = std::to_string(descriptors[0].get());
    auto asked =
        read_spawn(R"({"drives": [{"drive_id": "a", "path_on_host": "fd:0"}], "api_sock": "fd:0"})", 1, 1, descriptors);
    REQUIRE(asked);
    CHECK(find_device<DriveConfig>(asked->names.config, "a")->block.path == "/proc/self/fd/" + number);
    CHECK(asked->names.api.socket == "fd:" + number);
    CHECK(asked->passed.size() == 2);
    CHECK_FALSE(read_spawn(R"({"serial_log": "fd:1"})", 1, 1, descriptors));
}

TEST_CASE("what is no request is refused") {
    CHECK(code_of("{}") == "good");
    CHECK(code_of("") == "config_syntax");
    CHECK(code_of("[]") == "config_type");
    CHECK(code_of(R"({"kernel": "x"})") == "config_unknown_key");
    CHECK(code_of(R"({"boot-source": {}})") == "config_unknown_key");
    CHECK(code_of(R"({"count": 0})") == "config_value");
    CHECK(code_of(R"({"count": "3"})") == "config_value");
    CHECK(code_of(R"({"count": 1000000})") == "config_value");
    CHECK(code_of(R"({"clock": "late"})") == "config_value");
    CHECK(code_of(R"({"paused": 1})") == "config_type");
    CHECK(code_of(R"({"id": "a/b"})") == "config_value");
    CHECK(code_of(R"({"drives": [{"drive_id": "a"}]})") == "config_missing_key");
}

TEST_CASE("a request says what the options said, and can be read") {
    Config names;
    DriveConfig drive;
    drive.block.id = "root";
    drive.block.path = "/d";
    put_device(names, DeviceConfig{drive});
    put_device(names, DeviceConfig{VsockOptions{.guest_cid = 9, .uds_path = "/v"}});
    auto asked = read_spawn(spawn_body(names, {{"count", "2"}, {"id", "\"c\""}}), 1, 2, {});
    REQUIRE(asked);
    CHECK(asked->names.api.id == "c-1");
    CHECK(find_device<DriveConfig>(asked->names.config, "root")->block.path == "/d");
    CHECK(device_of<VsockOptions>(asked->names.config)->guest_cid == 9);
}

} // namespace inox::api_spawn_test
