// SPDX-License-Identifier: Apache-2.0
// The services around the guest: metadata, metrics, log lines, events, CPUID modifiers.
#include <fcntl.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sys/stat.h>
#include <unistd.h>

#include "api/firecracker/log_and_metrics.hpp"
#include "tests/catch.hpp"
#include "tests/support/files.hpp"
#include "vmm/boot/cpuid.hpp"
#include "vmm/instance/event_log.hpp"
#include "vmm/instance/logging.hpp"
#include "vmm/instance/metrics.hpp"
#include "vmm/instance/mmds_store.hpp"
#include "vmm/machine/preparation.hpp"

namespace inox::machine_services_test {

using devices::MetadataSource;
using tests::slurp;

namespace {

std::string scratch(const char* name) { return "/tmp/inox-services-" + std::to_string(::getpid()) + "-" + name; }

} // namespace

TEST_CASE("metadata is found by path, as JSON or as the text EC2's service gives") {
    MmdsStore store;
    using Format = MetadataSource::Format;
    using Status = MetadataSource::Status;
    CHECK(store.read("/", Format::json).status == Status::not_found);
    REQUIRE(
        store.put(R"({"latest": {"meta-data": {"id": "i-1", "n": 5, "sub": {"a": 1}, "list": ["x"]}, "a/b": true}})"));
    CHECK(store.read("/latest/meta-data/id", Format::json).text == "\"i-1\"");
    CHECK(store.read("/latest/meta-data/id/", Format::imds).text == "i-1");
    CHECK(store.read("/latest/meta-data/", Format::imds).text == "id\nlist\nn\nsub/");
    CHECK(store.read("/latest/meta-data/n", Format::imds).status == Status::no_text);
    CHECK(store.read("/latest/meta-data/list/0", Format::imds).text == "x");
    CHECK(store.read("/latest/a~1b", Format::json).text == "true");
    for (const char* path : {"/nothing", "/latest/meta-data/id/x", "/latest/meta-data/list/1", "/latest//id",
                             "/latest/meta-data/list/99999999999999999999"})
        CHECK(store.read(path, Format::json).status == Status::not_found);
    CHECK(store.read("", Format::json).text == store.text());
}

TEST_CASE("metadata keeps its limit, and a refused change changes nothing") {
    MmdsStore store{40};
    REQUIRE(store.put(R"({"a": "b"})"));
    CHECK(store.patch(R"({"c": "0123456789012345678901234567890123456789"})").error().code == Errc::no_resource);
    CHECK(store.put("{").error().code == Errc::config_syntax);
    CHECK(store.put("1").error().code == Errc::config_type);
    CHECK(store.text() == R"({"a":"b"})");
}

TEST_CASE("metrics are summed by group and kept by device") {
    const Samples samples{{"block", "a", "reads", 2, {}},
                          {"block", "b", "reads", 3, {}},
                          {"vcpu", {}, "exits", 7, {}},
                          {"net", "a", "link_up", 1, Sample::Type::gauge}};
    const auto json = nlohmann::json::parse(api::firecracker::metrics_line(samples, "vm-1", {}));
    CHECK(json.at("block").at("reads") == 5);
    CHECK(json.at("block_b").at("reads") == 3);
    CHECK(json.at("vcpu").at("exits") == 7);
    CHECK(json.at("utc_timestamp_ms") > 1'000'000'000'000);
    const auto headed = nlohmann::json::parse(api::firecracker::metrics_line(samples, "vm-1", {.emit_id = true}));
    CHECK(headed.at("id") == "vm-1");
    CHECK(headed.at("vcpu") == json.at("vcpu"));
    CHECK(prometheus_text(samples) == "# TYPE inox_block_reads_total counter\n"
                                      "inox_block_reads_total{id=\"a\"} 2\ninox_block_reads_total{id=\"b\"} 3\n"
                                      "# TYPE inox_net_link_up gauge\ninox_net_link_up{id=\"a\"} 1\n"
                                      "# TYPE inox_vcpu_exits_total counter\ninox_vcpu_exits_total 7\n");
}

TEST_CASE("a pipe that nobody reads costs lines, not time, and no line is torn") {
    const auto path = scratch("pipe");
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    auto file = MetricsFile::open(path);
    REQUIRE(file);
    const std::string line = std::string(8191, 'x') + "\n";
    for (int i = 0; i < 50; ++i)
        file->write(line);
    CHECK(file->dropped() > 0);
    const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
    std::string text;
    const auto read_all = [&] {
        char buffer[65536];
        for (auto got = ::read(reader, buffer, sizeof buffer); got > 0; got = ::read(reader, buffer, sizeof buffer))
            text.append(buffer, static_cast<std::size_t>(got));
    };
    read_all();
    file->write(line); // after the rest of the line before
    read_all();
    CHECK(text.size() % line.size() == 0);
    ::close(reader);
    ::unlink(path.c_str());
    CHECK(MetricsFile::open("/nonexistent/metrics").error().code == Errc::output_unwritable);
}

TEST_CASE("log lines have Firecracker's shape, with as much as was asked for") {
    const auto before = log::style();
    const auto path = scratch("log");
    LogConfig config;
    config.path = path;
    REQUIRE(use_log(config, api::firecracker::log_shape, "vm"));
    log::write(log::Level::info, "one %d", 1);
    config.show_level = config.show_origin = true;
    REQUIRE(use_log(config, api::firecracker::log_shape, "vm"));
    log::write(log::Level::warning, "two");
    config.module = "devices::virtio";
    REQUIRE(use_log(config, api::firecracker::log_shape, "vm"));
    log::write(log::Level::error, "of another module");
    const auto text = slurp(path);
    log::set_style(before);
    log::set_level(log::Level::warning);
    log::set_sink(STDERR_FILENO);
    ::unlink(path.c_str());
    const std::string time = R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} )";
    const std::regex whole{time + R"(\[vm:main\] one 1\n)" + time +
                           R"(\[vm:main:WARN:tests/unit/vmm/instance/machine_services_test\.cpp:\d+\] two\n)"};
    INFO(text);
    CHECK(std::regex_match(text, whole));
    CHECK(log::module_of("/x/devices/virtio/net.cpp").ends_with("devices::virtio::net"));
    config.path = "/nonexistent/log";
    CHECK(use_log(config).error().code == Errc::output_unwritable);
}

TEST_CASE("the last events are kept, and readers that left are forgotten") {
    EventLog events;
    int seen = 0;
    bool there = true;
    events.watch([&](const Event* event) {
        seen += event != nullptr ? 1 : 0;
        return there;
    });
    for (std::size_t i = 0; i < EventLog::kept + 10; ++i)
        events.publish("e");
    CHECK(seen == static_cast<int>(EventLog::kept + 10));
    CHECK(events.recent().size() == EventLog::kept);
    CHECK(events.recent().front().sequence == 11);
    there = false;
    events.watch([](const Event*) { return true; }); // asks the first reader whether it still reads
    events.publish("e");
    CHECK(seen == static_cast<int>(EventLog::kept + 10));
}

TEST_CASE("CPUID modifiers change the bits they name, and a leaf that is not there is refused") {
    kvm_cpuid_entry2 entry{};
    entry.function = 1;
    entry.ecx = 0xf0;
    std::vector<kvm_cpuid_entry2> entries{entry};
    using Register = boot::CpuidModifier::Register;
    REQUIRE(boot::modify_cpuid(entries, {{1, 0, Register::ecx, 0x11, 0x01}, {1, 0, Register::eax, 0xff, 0x12}}));
    CHECK(entries[0].ecx == 0xe1);
    CHECK(entries[0].eax == 0x12);
    CHECK(boot::modify_cpuid(entries, {{2, 0, Register::eax, 1, 1}}).error().code == Errc::config_value);
}

TEST_CASE("a CPUID modifier of a leaf that the host does not offer names its key") {
    std::vector<kvm_cpuid_entry2> supported(1);
    supported.front().eax = 1;
    Config config;
    config.machine.cpuid = {{0, 0, boot::CpuidModifier::Register::edx, 1, 1}};
    CHECK(guest_cpuid(config, supported, {}));
    config.machine.cpuid.push_back({0x33333, 0, boot::CpuidModifier::Register::eax, 1, 1});
    const auto refused = guest_cpuid(config, supported, {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::config_value);
    CHECK(refused.error().where == "/cpu-config/cpuid_modifiers");
    CHECK(refused.error().what.find("0x33333") != std::string::npos);
}

} // namespace inox::machine_services_test
