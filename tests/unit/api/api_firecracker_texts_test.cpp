// SPDX-License-Identifier: Apache-2.0
// Firecracker's texts do not change when our own sentences do.
#include <fstream>

#include "api/firecracker/words.hpp"
#include "api/routes_reply.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/machine_events.hpp"
#include "tests/support/api_client.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/machine/device_table.hpp"

namespace inox::api_firecracker_texts_test {

using tests::ApiClient;

namespace {

struct BadBody {
    std::string method;
    std::string path;
    std::string body;
    std::string text;
    bool own; ///< worded by inox
};

std::vector<BadBody> bad_bodies() {
    std::ifstream file{INOX_SOURCE_DIR "/tests/unit/api/firecracker_texts.txt"};
    std::vector<BadBody> all;
    std::string request;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("#") || line.empty())
            continue;
        if (!line.starts_with("    ")) {
            request = line;
            continue;
        }
        const auto space = request.find(' ');
        const auto next = request.find(' ', space + 1);
        const bool own = line.starts_with("    own ");
        auto text = line.substr(own ? 8 : 4);
        if (text.starts_with("..."))
            text = "An error occurred when deserializing the json body of a request: " + text.substr(3);
        all.push_back({request.substr(0, space), request.substr(space + 1, next - space - 1), request.substr(next + 1),
                       std::move(text), own});
    }
    return all;
}

Error reworded(Error error) {
    error.what = "nonsense, got 'it' is not one of a or b";
    error.hint = "the keys here are none";
    return error;
}

/// The body, read as its route reads it; nullopt where it is not a section.
std::optional<api::SectionBody> read_as_section(const BadBody& bad) {
    const std::string name = bad.path == "/mmds/config" ? "mmds-config" : bad.path.substr(1, bad.path.find('/', 1) - 1);
    if (name == "mmds" || std::ranges::find(config_sections(), name, &Section::name) == config_sections().end())
        return std::nullopt;
    if (bad.method == "PUT")
        return api::read_section(name, bad.body);
    if (name == "drives")
        return api::read_change(name, bad.body, {"drive_id", "path_on_host", "rate_limiter"});
    if (name == "network-interfaces")
        return api::read_change(name, bad.body, {"iface_id", "rx_rate_limiter", "tx_rate_limiter"});
    if (name == "machine-config")
        return api::read_section(name, bad.body, std::nullopt);
    return std::nullopt;
}

/// Checks the sentence that Firecracker's renderer makes of the real error, and of one with other words.
void check_sentence(const std::optional<Error>& error, const std::string& sentence) {
    REQUIRE(error);
    CHECK(error->what != sentence);
    CHECK(api::firecracker::in_words(*error).what == sentence);
    CHECK(api::firecracker::in_words(reworded(*error)).what == sentence);
}

template <class T> std::optional<Error> error_of(const Result<T>& result) {
    return result ? std::nullopt : std::optional{result.error()};
}

/// The problem that check() finds at this place.
std::optional<Error> problem_at(const Config& config, std::string_view where) {
    for (auto& problem : check(config))
        if (problem.where == where)
            return problem;
    return std::nullopt;
}

} // namespace

TEST_CASE("bodies that do not fit have their texts") {
    ApiClient client;
    const auto all = bad_bodies();
    CHECK(all.size() > 100);
    for (const auto& bad : all) {
        INFO(bad.method << " " << bad.path << " " << bad.body);
        CHECK(ApiClient::fault(client.call(bad.method == "PUT" ? api::Method::put : api::Method::patch, bad.path,
                                           bad.body)) == bad.text);
    }
}

TEST_CASE("Firecracker's texts of bad bodies do not depend on the words of our errors") {
    std::size_t reworded_count = 0;
    for (const auto& bad : bad_bodies()) {
        const auto body = read_as_section(bad);
        if (!body || !body->problem)
            continue;
        INFO(bad.method << " " << bad.path << " " << bad.body << ": " << body->problem->what);
        const auto text = [&](const Error& error) {
            return api::firecracker::in_words(error, {body->root, bad.body}).what;
        };
        if (bad.own) {
            CHECK(text(*body->problem).find(body->problem->what) != std::string::npos);
            continue;
        }
        ++reworded_count;
        CHECK(text(reworded(*body->problem)) == text(*body->problem));
    }
    CHECK(reworded_count > 60);
}

TEST_CASE("a disk without an image is Firecracker's whatever our words are") {
    const auto body = api::read_section("drives", R"({"drive_id": "a", "is_root_device": true})");
    REQUIRE(body.problem);
    REQUIRE(body.problem->as<MissingKey>());
    CHECK(body.problem->as<MissingKey>()->key == "path_on_host");
}

TEST_CASE("rules of a whole configuration have Firecracker's sentences") {
    Config config;
    SECTION("CPUs") {
        config.machine.cpus = 33;
        check_sentence(
            problem_at(config, "/machine-config/vcpu_count"),
            "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT "
            "is enabled.");
    }
    SECTION("memory") {
        config.machine.memory = 0;
        check_sentence(problem_at(config, "/machine-config/mem_size_mib"),
                       "The memory size (MiB) is either 0, or not a multiple of the configured page size.");
    }
    SECTION("root disks") {
        config.devices = {DriveConfig{.block = {.id = "a"}, .root = true},
                          DriveConfig{.block = {.id = "b"}, .root = true}};
        check_sentence(problem_at(config, "/drives"), "A root block device already exists!");
    }
    SECTION("MAC addresses") {
        using devices::virtio::NetOptions;
        const auto mac = *devices::virtio::MacAddress::parse("02:00:00:00:00:01");
        config.devices = {NetOptions{.id = "a", .tap = "a", .mac = mac}, NetOptions{.id = "b", .tap = "b", .mac = mac}};
        check_sentence(problem_at(config, "/network-interfaces"),
                       "The MAC address is already in use: 02:00:00:00:00:01");
    }
    SECTION("room") {
        const bool pci = GENERATE(false, true);
        config.machine.transport = pci ? Transport::pci : Transport::mmio;
        for (int i = 0; i < 32; ++i)
            config.devices.emplace_back(DriveConfig{.block = {.id = std::to_string(i)}});
        check_sentence(problem_at(config, "/drives"),
                       pci ? "Could not find an available device slot on the PCI bus."
                           : "Could not allocate GSI: The requested resource is not available.");
    }
    SECTION("interfaces of the metadata service") {
        ConfigFile file;
        file.mmds.emplace().interfaces = {"eth0"};
        check_sentence(check_metadata(file), "The list of network interface IDs provided contains at least one ID that "
                                             "does not correspond to any existing network interface.");
    }
}

TEST_CASE("a host device that is assigned twice is told apart by its detail") {
    Config config;
    config.devices = {VfioConfig{.open = {.id = "a", .host = "0000:01:00.0"}},
                      VfioConfig{.open = {.id = "b", .host = "0000:01:00.0"}}};
    const auto problem = problem_at(config, "/vfio/1/host");
    REQUIRE(problem);
    CHECK(problem->as<HostDeviceTaken>());
}

TEST_CASE("a guest's refusals have Firecracker's sentences") {
    EventLoop loop;
    fakes::RecordingEvents owner;
    DeviceTable table{loop, owner};
    REQUIRE(table.add_fixed({kind_of<DriveConfig>, "a"}, nullptr));
    check_sentence(error_of(table.check_free({kind_of<DriveConfig>, "a"})), "Device ID in use");
    check_sentence(error_of(table.remove({kind_of<DriveConfig>, "b"}, Removal::asked)), "Device not found");
    check_sentence(error_of(table.remove({kind_of<DriveConfig>, "a"}, Removal::asked)), "PCI is not enabled");

    ApiClient client;
    std::optional<Error> start;
    client.instance().start([&](const Result<void>& started) { start = error_of(started); });
    check_sentence(start, "Cannot start microvm without kernel configuration.");
    REQUIRE(client.instance().use_metrics({"/dev/null"}));
    check_sentence(error_of(client.instance().use_metrics({"/dev/null"})),
                   "Cannot initialize the metrics system due to bad user input: Reinitialization of metrics not "
                   "allowed.");
}

TEST_CASE("Firecracker's sentence keeps what ours said as a hint") {
    const Error room{Errc::no_resource, "too many", "use fewer", {}, 0, NoRoom{true}};
    CHECK(api::firecracker::in_words(room).hint == "too many: use fewer");
    const Error device{Errc::not_found, "there is no drive 'a'", {}, {}, 0, NoDevice{}};
    CHECK(api::firecracker::in_words(device).hint == "there is no drive 'a'");
    const Error other{Errc::wrong_state, "not now", "later"};
    CHECK(api::firecracker::in_words(other).what == "not now");
}

} // namespace inox::api_firecracker_texts_test
