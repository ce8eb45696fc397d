// SPDX-License-Identifier: Apache-2.0
// The keys of the virtio devices.
#include <algorithm>

#include "devices/virtio/balloon.hpp"
#include "devices/virtio/block/block.hpp"
#include "devices/virtio/entropy.hpp"
#include "devices/virtio/fs.hpp"
#include "devices/virtio/net/net.hpp"
#include "devices/virtio/vsock/vsock.hpp"
#include "iommu/pasid/ioasid_types.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {

std::string read_id(const JsonValue& value) {
    auto text = value.text().value_or("");
    if (!is_id(text))
        value.report(Errc::config_value, in_quotes(text) + " is no id", id_rule);
    return text;
}

std::optional<devices::BucketLimits> read_bucket(const JsonValue& bucket) {
    if (bucket.json().is_null())
        return std::nullopt;
    if (!bucket.json().is_object()) {
        bucket.report_type(JsonType::object);
        return std::nullopt;
    }
    devices::BucketLimits limits;
    auto number = [&](const char* key, bool required, std::uint64_t most = UINT64_MAX) -> std::uint64_t {
        if (!bucket.json().contains(key) || bucket.json().at(key).is_null()) {
            if (required)
                bucket.report_missing(key);
            return 0;
        }
        const JsonValue value{bucket.json().at(key), json_pointer(bucket.pointer(), key), bucket.problems()};
        return value.number({0, most}, Errc::config_value).value_or(0);
    };
    limits.size = number("size", true);
    limits.one_time_burst = number("one_time_burst", false);
    limits.refill_time = std::chrono::milliseconds{number("refill_time", true, UINT32_MAX)};
    for (const auto& [key, member] : bucket.json().items())
        if (key != "size" && key != "one_time_burst" && key != "refill_time")
            bucket.member(key, member).report_unknown(key, {"size", "one_time_burst", "refill_time"});
    return limits;
}

namespace {

using devices::BucketLimits;
using devices::RateLimits;
using devices::virtio::BlockCache;
using devices::virtio::BlockEngineKind;

// Values

void read_limits(const JsonValue& value, RateLimits& out) {
    if (!value.json().is_object())
        return value.report_type(JsonType::object);
    for (const auto& [key, member] : value.json().items())
        if (key != "bandwidth" && key != "ops")
            value.member(key, member).report_unknown(key, {"bandwidth", "ops"});
    const auto bucket = [&](const char* name) -> std::optional<BucketLimits> {
        if (!value.json().contains(name))
            return std::nullopt;
        return read_bucket({value.json().at(name), json_pointer(value.pointer(), name), value.problems()});
    };
    out.bandwidth = bucket("bandwidth");
    out.ops = bucket("ops");
}

// Drives

DriveConfig& drive(ConfigFile& file) { return file.config.drives.back(); }

void read_cache(const JsonValue& value, ConfigFile& file) {
    static constexpr std::string_view names[] = {"Unsafe", "Writeback", "Writethrough"};
    static_assert(static_cast<int>(BlockCache::unsafe) == 0 && static_cast<int>(BlockCache::writethrough) == 2);
    if (const auto index = value.one_of(names))
        drive(file).block.cache = static_cast<BlockCache>(*index);
}

void read_engine(const JsonValue& value, ConfigFile& file) {
    static constexpr std::string_view names[] = {"Auto", "Sync", "Async"};
    static constexpr BlockEngineKind kinds[] = {BlockEngineKind::automatic, BlockEngineKind::sync,
                                                BlockEngineKind::io_uring};
    if (const auto index = value.one_of(names))
        drive(file).block.engine = kinds[*index];
}

void read_format(const JsonValue& value, ConfigFile& file) {
    static constexpr std::string_view names[] = {"auto", "raw"};
    if (const auto index = value.one_of(names))
        drive(file).block.contents =
            *index == 0 ? devices::virtio::ImageContents::raw_disk : devices::virtio::ImageContents::anything;
}

void read_vhost_user_socket(const JsonValue& value, ConfigFile& /*file*/) {
    value.report(Errc::unsupported, "vhost-user disks are not in this version of inox", "use path_on_host");
}

void read_serial(const JsonValue& value, ConfigFile& file) {
    auto& serial = drive(file).block.serial;
    read_text(value, serial);
    if (serial.size() > devices::virtio::Block::longest_serial)
        value.report(Errc::config_value, format("a serial number of %zu bytes", serial.size()),
                     format("use at most %zu", devices::virtio::Block::longest_serial));
}

constexpr Field drive_field_rows[] = {
    {"drive_id", Need::required_by_firecracker, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { drive(file).block.id = read_id(value); }, "id"},
    {"partuuid", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { drive(file).partuuid = value.text().value_or(""); }},
    {"is_root_device", Need::required_by_firecracker, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { drive(file).root = value.boolean().value_or(false); }, "root"},
    {"cache_type", Need::optional, Null::means_absent, read_cache, "cache"},
    {"is_read_only", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { drive(file).block.read_only = value.boolean().value_or(false); },
     "readonly"},
    {"path_on_host", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, drive(file).block.path); }, "path"},
    {"rate_limiter", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_limits(value, drive(file).block.limits); }},
    {"io_engine", Need::optional, Null::means_absent, read_engine, "engine"},
    {"socket", Need::optional, Null::means_absent, read_vhost_user_socket},
    {"queues", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) {
         drive(file).block.queues = read_count(value, devices::virtio::Block::max_queues, 1);
     }},
    {"serial", Need::optional, Null::means_absent, read_serial},
    {"format", Need::optional, Null::means_absent, read_format},
};

// Network-interfaces

devices::virtio::NetOptions& net(ConfigFile& file) { return file.config.nets.back(); }

void read_mac(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (!text)
        return;
    if (auto mac = devices::virtio::MacAddress::parse(*text))
        net(file).mac = *mac;
    else
        value.report(Errc::config_value, mac.error().what, mac.error().hint);
}

void read_mtu(const JsonValue& value, ConfigFile& file) {
    if (const auto mtu = value.number({68, 65535}, Errc::config_value))
        net(file).mtu = static_cast<unsigned>(*mtu);
}

constexpr Field net_field_rows[] = {
    {"iface_id", Need::required_by_firecracker, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { net(file).id = read_id(value); }, "id"},
    {"host_dev_name", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, net(file).tap); }, "tap"},
    {"guest_mac", Need::optional, Null::means_absent, read_mac, "mac"},
    {"mtu", Need::optional, Null::means_absent, read_mtu},
    {"rx_rate_limiter", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_limits(value, net(file).receive_limits); }},
    {"tx_rate_limiter", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_limits(value, net(file).send_limits); }},
    {"queue_pairs", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) {
         net(file).queue_pairs = read_count(value, devices::virtio::Net::max_pairs, 1);
     },
     "queues"},
};

// Shares

constexpr Field share_field_rows[] = {
    {"tag", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         auto& tag = file.config.shares.back().tag;
         read_text(value, tag);
         if (value.json().is_string() && (tag.empty() || tag.size() > devices::virtio::Fs::longest_tag))
             value.report(Errc::config_value, format("a tag of %zu bytes", tag.size()),
                          format("use 1 to %zu: the guest mounts the folder by it", devices::virtio::Fs::longest_tag));
     }},
    {"socket", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_socket_path(value, file.config.shares.back().socket); }},
};

// Vsock

void read_cid(const JsonValue& value, ConfigFile& file) {
    if (const auto cid = value.number({3, 0xfffffffe}, Errc::config_value))
        file.config.vsock->guest_cid = *cid;
}

constexpr Field vsock_field_rows[] = {
    {"guest_cid", Need::required, Null::refused, read_cid, "cid"},
    {"uds_path", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_vsock_path(value, file.config.vsock->uds_path); }, "uds"},
    {"vsock_id", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { file.config.vsock->id = read_id(value); }, "id"},
};

// Entropy, balloon, console

constexpr Field entropy_field_rows[] = {
    {"rate_limiter", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_limits(value, file.config.entropy->limits); }},
};

devices::virtio::BalloonOptions& balloon(ConfigFile& file) { return *file.config.balloon; }

constexpr Field balloon_field_rows[] = {
    {"amount_mib", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         constexpr auto most = layout::max_ram / MiB - 1;
         balloon(file).target = value.number({0, UINT32_MAX}, Errc::config_value, {0, most}).value_or(0) * MiB;
     },
     "size"},
    {"deflate_on_oom", Need::required_by_firecracker, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { balloon(file).deflate_on_oom = value.boolean().value_or(false); }},
    {"stats_polling_interval_s", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         balloon(file).statistics_interval =
             std::chrono::seconds{value.number({0, UINT16_MAX}, Errc::config_value).value_or(0)};
     }},
    {"free_page_reporting", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         balloon(file).free_page_reporting = value.boolean().value_or(false);
     }},
    {"free_page_hinting", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         balloon(file).free_page_hinting = value.boolean().value_or(false);
     }},
};

constexpr Field console_field_rows[] = {
    {"path", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.config.console->path); }},
};

// Iommu

std::uint64_t read_limit(const JsonValue& value, std::uint64_t least, std::uint64_t most) {
    return value.number({least, most}, Errc::config_value).value_or(least);
}

IommuConfig& iommu_of(ConfigFile& file) { return *file.config.iommu; }

constexpr Field iommu_field_rows[] = {
    {"bypass", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { iommu_of(file).bypass = value.boolean(); }},
    {"address_bits", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         iommu_of(file).limits.address_bits = static_cast<unsigned>(read_limit(value, 32, 64));
     }},
    {"max_domains", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { iommu_of(file).limits.domains = read_limit(value, 1, 65536); }},
    {"max_mappings", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { iommu_of(file).limits.mappings = read_limit(value, 1, 16777216); }},
};

constexpr Field pasid_field_rows[] = {
    {"quota", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.config.pasid->quota = static_cast<std::uint32_t>(read_limit(value, 1, iommu::max_ioasid));
     }},
};

// Dsa

constexpr Field dsa_field_rows[] = {
    {"queues", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.config.dsa->shape.queues = read_count(value, devices::dsa::max_queues, 1);
     }},
    {"entries", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.config.dsa->shape.entries = read_count(value, devices::dsa::max_entries, 1);
     }},
    {"engines", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.config.dsa->shape.engines = read_count(value, devices::dsa::max_engines, 1);
     }},
    {"forward", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.config.dsa->forward); }},
};

} // namespace

std::span<const Field> iommu_fields() { return iommu_field_rows; }
std::span<const Field> pasid_fields() { return pasid_field_rows; }
std::span<const Field> dsa_fields() { return dsa_field_rows; }
std::span<const Field> entropy_fields() { return entropy_field_rows; }
std::span<const Field> balloon_fields() { return balloon_field_rows; }
std::span<const Field> console_fields() { return console_field_rows; }
std::span<const Field> vsock_fields() { return vsock_field_rows; }
std::span<const Field> drive_fields() { return drive_field_rows; }
std::span<const Field> net_fields() { return net_field_rows; }
std::span<const Field> share_fields() { return share_field_rows; }

} // namespace inox
