// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;

Json bucket_json(const devices::BucketLimits& limits) {
    return {
        {"size", limits.size}, {"one_time_burst", limits.one_time_burst}, {"refill_time", limits.refill_time.count()}};
}

Json limits_json(const devices::RateLimits& limits) {
    if (!limits.bandwidth && !limits.ops)
        return nullptr;
    return {{"bandwidth", or_null(limits.bandwidth, bucket_json)}, {"ops", or_null(limits.ops, bucket_json)}};
}

namespace {

Json boot_json(const BootConfig& boot) {
    if (boot.kernel.empty())
        return nullptr;
    return {{"kernel_image_path", boot.kernel},
            {"initrd_path", or_null(boot.initrd)},
            {"boot_args", boot.own_cmdline ? Json(boot.cmdline) : Json(nullptr)}};
}

Json cpu_json(const std::vector<boot::CpuidModifier>& modifiers) {
    if (modifiers.empty())
        return nullptr;
    static constexpr const char* registers[] = {"eax", "ebx", "ecx", "edx"};
    Json list = Json::array();
    const boot::CpuidModifier* last = nullptr;
    for (const auto& one : modifiers) {
        std::string bitmap = "0b";
        for (unsigned bit = 32; bit-- > 0;)
            bitmap += (one.mask >> bit & 1) == 0 ? 'x' : (one.value >> bit & 1) != 0 ? '1' : '0';
        if (last == nullptr || last->leaf != one.leaf || last->subleaf != one.subleaf || last->flags != one.flags)
            list.push_back({{"leaf", format("0x%x", one.leaf)},
                            {"subleaf", format("0x%x", one.subleaf)},
                            {"flags", one.flags},
                            {"modifiers", Json::array()}});
        list.back()["modifiers"].push_back(
            {{"register", registers[static_cast<std::size_t>(one.reg)]}, {"bitmap", bitmap}});
        last = &one;
    }
    return {{"cpuid_modifiers", std::move(list)}};
}

Json logger_json(const LogConfig& log) {
    if (log.path.empty() && !log.level && !log.show_level && !log.show_origin && log.module.empty())
        return nullptr;
    static constexpr const char* levels[] = {"Off", "Error", "Warning", "Info", "Debug", "Trace"};
    return {{"log_path", or_null(log.path)},
            {"level", or_null(log.level, [](auto level) { return levels[static_cast<std::size_t>(level)]; })},
            {"show_level", log.show_level.value_or(false)},
            {"show_log_origin", log.show_origin.value_or(false)},
            {"module", or_null(log.module)}};
}

Json mmds_json(const MmdsConfig& mmds) {
    return {{"version", mmds.version_2 ? "V2" : "V1"},
            {"network_interfaces", mmds.interfaces},
            {"ipv4_address", mmds.address},
            {"imds_compat", mmds.imds_compatible}};
}

Json serial_json(const SerialConfig& serial) {
    if (serial.path.empty() && !serial.limit)
        return nullptr;
    return {{"serial_out_path", or_null(serial.path)}, {"rate_limiter", or_null(serial.limit, bucket_json)}};
}

} // namespace

std::string_view state_text(Instance::State state) {
    static constexpr std::string_view texts[] = {"Not started", "Running", "Paused", "Ended"};
    return texts[static_cast<std::size_t>(state)];
}

Json machine_config_json(const MachineConfig& config) {
    static constexpr const char* pages[] = {"None", "Transparent", "2M"};
    return {{"vcpu_count", config.cpus},
            {"mem_size_mib", config.memory / MiB},
            {"smt", config.smt},
            {"track_dirty_pages", config.track_dirty_pages},
            {"huge_pages", pages[static_cast<std::size_t>(config.huge_pages)]}};
}

Json vm_config_json(const ConfigFile& file) {
    const auto& config = file.config;
    Json json{{"balloon", nullptr},
              {"drives", Json::array()},
              {"boot-source", boot_json(config.boot)},
              {"cpu-config", cpu_json(config.machine.cpuid)},
              {"logger", logger_json(file.log)},
              {"machine-config", machine_config_json(config.machine)},
              {"metrics", or_null(file.metrics,
                                  [](const auto& metrics) {
                                      return Json{{"metrics_path", metrics.path},
                                                  {"emit_id", metrics.emit_id},
                                                  {"properties", metrics.properties.empty()
                                                                     ? Json(nullptr)
                                                                     : Json::parse(metrics.properties)}};
                                  })},
              {"mmds-config", or_null(file.mmds, mmds_json)},
              {"network-interfaces", Json::array()},
              {"vsock", nullptr},
              {"entropy", nullptr},
              {"serial", serial_json(file.serial)},
              {"pmem", Json::array()},
              {"memory-hotplug", nullptr},
              {"device-passthrough", Json::array()}};
    for (const auto& device : placed_devices(config))
        std::visit([&]<class Options>(const Options& one) { DeviceView<Options>::add(json, one, config); },
                   *device.config);
    if (config.pasid)
        json["pasid"] = {{"quota", config.pasid->quota}};
    return json;
}

} // namespace inox::api
