// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"

namespace inox::api {
namespace {

using Json = nlohmann::ordered_json;

Json or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

template <class T, class F> Json or_null(const std::optional<T>& value, F&& convert) {
    return value ? Json(convert(*value)) : Json(nullptr);
}

Json bucket_json(const devices::BucketLimits& limits) {
    return {
        {"size", limits.size}, {"one_time_burst", limits.one_time_burst}, {"refill_time", limits.refill_time.count()}};
}

Json limits_json(const devices::RateLimits& limits) {
    if (!limits.bandwidth && !limits.ops)
        return nullptr;
    return {{"bandwidth", or_null(limits.bandwidth, bucket_json)}, {"ops", or_null(limits.ops, bucket_json)}};
}

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

Json vsock_json(const devices::virtio::VsockOptions& vsock) {
    return {{"guest_cid", vsock.guest_cid}, {"uds_path", vsock.uds_path}};
}

/// What only inox has, where it is configured: clients of Firecracker see Firecracker's keys.
void add_own_sections(Json& json, const Config& config) {
    for (const auto& share : config.shares)
        json["shares"].push_back({{"tag", share.tag}, {"socket", share.socket}});
    if (config.console)
        json["console"] = {{"path", or_null(config.console->path)}};
    if (config.iommu)
        json["iommu"] = {{"bypass", boot_bypass(config)},
                         {"address_bits", config.iommu->limits.address_bits},
                         {"max_domains", config.iommu->limits.domains},
                         {"max_mappings", config.iommu->limits.mappings}};
    if (config.dsa)
        json["dsa"] = {{"queues", config.dsa->shape.queues},
                       {"entries", config.dsa->shape.entries},
                       {"engines", config.dsa->shape.engines},
                       {"forward", or_null(config.dsa->forward)}};
    if (config.pasid)
        json["pasid"] = {{"quota", config.pasid->quota}};
}

Json serial_json(const SerialConfig& serial) {
    if (serial.path.empty() && !serial.limit)
        return nullptr;
    return {{"serial_out_path", or_null(serial.path)}, {"rate_limiter", or_null(serial.limit, bucket_json)}};
}

} // namespace

Json machine_config_json(const MachineConfig& config) {
    static constexpr const char* pages[] = {"None", "Transparent", "2M"};
    return {{"vcpu_count", config.cpus},
            {"mem_size_mib", config.memory / MiB},
            {"smt", config.smt},
            {"track_dirty_pages", false},
            {"huge_pages", pages[static_cast<std::size_t>(config.huge_pages)]}};
}

Json drive_json(const DriveConfig& drive) {
    static constexpr const char* caches[] = {"Unsafe", "Writeback", "Writethrough"};
    static constexpr const char* engines[] = {nullptr, "Sync", "Async"}; // Auto is no word of Firecracker's
    const char* engine = engines[static_cast<std::size_t>(drive.block.engine)];
    Json json{{"drive_id", drive.block.id},
              {"partuuid", or_null(drive.partuuid)},
              {"is_root_device", drive.root},
              {"cache_type", caches[static_cast<std::size_t>(drive.block.cache)]},
              {"is_read_only", drive.block.read_only},
              {"path_on_host", drive.block.path},
              {"rate_limiter", limits_json(drive.block.limits)},
              {"io_engine", engine == nullptr ? Json(nullptr) : Json(engine)},
              {"socket", nullptr}};
    if (drive.block.queues != 1)
        json["queues"] = drive.block.queues;
    if (!drive.block.serial.empty())
        json["serial"] = drive.block.serial;
    if (drive.block.contents == devices::virtio::ImageContents::anything)
        json["format"] = "raw";
    return json;
}

Json net_json(const devices::virtio::NetOptions& net) {
    Json json{{"iface_id", net.id},
              {"host_dev_name", net.tap},
              {"guest_mac", or_null(net.mac, [](const auto& mac) { return mac.text(); })},
              {"mtu", or_null(net.mtu, [](unsigned mtu) { return mtu; })},
              {"rx_rate_limiter", limits_json(net.receive_limits)},
              {"tx_rate_limiter", limits_json(net.send_limits)}};
    if (net.queue_pairs != 1)
        json["queue_pairs"] = net.queue_pairs;
    return json;
}

Json balloon_json(const devices::virtio::BalloonOptions& balloon) {
    return {{"amount_mib", balloon.target / MiB},
            {"deflate_on_oom", balloon.deflate_on_oom},
            {"stats_polling_interval_s", balloon.statistics_interval.count()},
            {"free_page_hinting", balloon.free_page_hinting},
            {"free_page_reporting", balloon.free_page_reporting}};
}

Json vm_config_json(const ConfigFile& file) {
    const auto& config = file.config;
    Json drives = Json::array();
    for (const auto& drive : config.drives)
        drives.push_back(drive_json(drive));
    Json nets = Json::array();
    for (const auto& net : config.nets)
        nets.push_back(net_json(net));
    Json assigned = Json::array();
    for (const auto& device : config.vfio)
        assigned.push_back({{"id", device.open.id}, {"sbdf", device.open.host}});
    Json json{{"balloon", or_null(config.balloon, balloon_json)},
              {"drives", std::move(drives)},
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
              {"network-interfaces", std::move(nets)},
              {"vsock", or_null(config.vsock, vsock_json)},
              {"entropy", or_null(config.entropy,
                                  [](const auto& rng) {
                                      return Json{{"rate_limiter", limits_json(rng.limits)}};
                                  })},
              {"serial", serial_json(file.serial)},
              {"pmem", Json::array()},
              {"memory-hotplug", nullptr},
              {"device-passthrough", std::move(assigned)}};
    add_own_sections(json, config);
    return json;
}

} // namespace inox::api
