// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/config_check.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/catch.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::config_check_test {

namespace {

bool has(const std::vector<Error>& problems, Errc code, std::string_view where) {
    return std::ranges::any_of(problems, [&](const Error& one) { return one.code == code && one.where == where; });
}

std::vector<Error> preflight(const ConfigFile& file) {
    ParsedConfig parsed{file, {}, {}};
    preflight(parsed);
    return parsed.problems;
}

} // namespace

TEST_CASE("a missing kernel and a missing initrd are both told") {
    ConfigFile file;
    file.config.boot = {"/nonexistent/k", "/nonexistent/i", ""};
    const auto problems = preflight(file);
    CHECK(has(problems, Errc::kernel_missing, "/boot-source/kernel_image_path"));
    CHECK(has(problems, Errc::initrd_missing, "/boot-source/initrd_path"));
}

TEST_CASE("a file that is no kernel is told") {
    ConfigFile file;
    file.config.boot.kernel = std::string{INOX_SOURCE_DIR} + "/LICENSE";
    CHECK(has(preflight(file), Errc::kernel_invalid, "/boot-source/kernel_image_path"));
}

TEST_CASE("output that cannot be written is told") {
    ConfigFile file;
    file.run.serial_log = "/nonexistent/serial";
    file.run.boot_timeline = "/nonexistent/boot.svg";
    file.log.path = "/nonexistent/log";
    const auto problems = preflight(file);
    CHECK(has(problems, Errc::output_unwritable, "/inox/serial_log"));
    CHECK(has(problems, Errc::output_unwritable, "/inox/boot_timeline"));
    CHECK(has(problems, Errc::output_unwritable, "/logger/log_path"));
}

TEST_CASE("more memory than the host has is told") {
    ConfigFile file;
    file.config.machine.memory = 200 * GiB; // fits every CPU's addresses
    file.config.machine.huge_pages = HugePages::two_mib;
    CHECK(has(preflight(file), Errc::memory_unavailable, "/machine-config/huge_pages"));
}

TEST_CASE("check's JSON carries every problem") {
    ParsedConfig parsed;
    parsed.problems.push_back({Errc::kernel_missing, "no \"kernel\"\xff", "a hint", "/a/b", 2});
    parsed.ignored.push_back("x");
    VfioNeeds needs{.groups = 1, .locked = 1 << 20, .bars_32 = 4096, .vectors = 3};
    needs.devices.push_back({"0000:01:00.0", 7, devices::vfio::Backend::iommufd, 1, 4096, 3});
    const auto json = nlohmann::json::parse(check_json("vm.json", parsed, {{"a note"}, needs}));
    CHECK(json["ok"] == false);
    CHECK(json["problems"][0]["code"] == "kernel_missing");
    CHECK(json["problems"][0]["exit_code"] == 100);
    CHECK(json["problems"][0]["where"] == "/a/b");
    CHECK(json["ignored"][0] == "x");
    CHECK(json["notes"][0] == "a note");
    CHECK(json["vfio"] ==
          nlohmann::json::parse(R"({"devices": [{"host": "0000:01:00.0", "group": 7, "backend": "iommufd",
        "bars": 1, "bar_bytes": 4096, "vectors": 3}], "groups": 1, "locked_bytes": 1048576, "lock_limit_bytes": null,
        "bar_bytes_32": 4096, "bar_bytes_64": 0, "io_bars": 0, "vectors": 3})"));
}

} // namespace inox::config_check_test
