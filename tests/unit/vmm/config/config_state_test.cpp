// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_state.hpp"

#include "tests/catch.hpp"

namespace inox::config_state_test {
namespace {

Config sample() {
    constexpr std::string_view text = R"({
        "boot-source": {"kernel_image_path": "/k", "boot_args": "quiet"},
        "machine-config": {"vcpu_count": 3, "mem_size_mib": 300},
        "smbios": {"serial": "s1"},
        "pasid": {"quota": 5},
        "iommu": {"bypass": true, "max_domains": 9},
        "dsa": {"queues": 2},
        "balloon": {"amount_mib": 10, "deflate_on_oom": true, "stats_polling_interval_s": 2},
        "entropy": {"rate_limiter": {"bandwidth": {"size": 100, "refill_time": 10}}},
        "console": {"path": "/c"},
        "vsock": {"guest_cid": 7, "uds_path": "/v"},
        "shares": [{"tag": "t", "path": "/s", "read_only": true}],
        "drives": [{"drive_id": "a", "path_on_host": "/a", "cache_type": "Unsafe", "queues": 4, "serial": "x",
                    "is_root_device": true, "partuuid": "p"}, {"drive_id": "b", "path_on_host": "/b"}],
        "network-interfaces": [{"iface_id": "n", "host_dev_name": "tap0", "guest_mac": "02:00:00:00:00:01",
                                "mtu": 1400, "queue_pairs": 2},
                               {"iface_id": "u", "user": true, "forward": ["8080:80"]}],
        "inox": {"pci_window_32_mib": 256}})";
    auto parsed = parse_config(text, Dialect::inox);
    for (const auto& problem : parsed.problems)
        FAIL(problem.report());
    return std::move(parsed.file.config);
}

nlohmann::json saved(Config config) {
    State state;
    config_state(state, config);
    return state.take();
}

} // namespace

TEST_CASE("a configuration is restored as it was saved, with every kind of device") {
    const auto value = saved(sample());
    State state{value, "config"};
    Config config;
    config_state(state, config);
    const auto result = state.result();
    REQUIRE(result);
    CHECK(config.devices == sample().devices);
    CHECK(config.machine.cpus == 3);
    CHECK(config.machine.memory == 300 * MiB);
    CHECK(config.pasid->quota == 5);
    CHECK(config.smbios.serial == "s1");
    CHECK(saved(config) == value);
    // Each kind but assigned devices is in the sample
    std::size_t kinds = 0;
    DeviceKinds::each([&]<class Options>() { kinds += device_of<Options>(config) != nullptr ? 1 : 0; });
    CHECK(kinds == DeviceKinds::size - 1);
}

TEST_CASE("a saved configuration obeys the rules of every other one") {
    auto value = saved(sample());
    value["devices"][0]["kind"] = "toaster";
    State unknown{value, "config"};
    Config config;
    config_state(unknown, config);
    CHECK_FALSE(unknown.result());
    auto twice = saved(sample());
    for (auto& device : twice["devices"])
        if (device["kind"] == "disk")
            device["options"]["id"] = "same";
    State state{twice, "config"};
    config_state(state, config);
    CHECK_FALSE(state.result());
}

} // namespace inox::config_state_test
