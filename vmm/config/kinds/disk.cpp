// SPDX-License-Identifier: Apache-2.0
// Disks: the keys, the option, the rules.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

using devices::virtio::BlockCache;
using devices::virtio::BlockEngineKind;

DriveConfig& drive(ConfigFile& file) { return being_read<DriveConfig>(file); }

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
    read_plain_text(value, serial);
    if (serial.size() > devices::virtio::BlockOptions::longest_serial)
        value.report(Errc::config_value, format("a serial number of %zu bytes", serial.size()),
                     format("use at most %zu", devices::virtio::BlockOptions::longest_serial));
}

constexpr Field fields[] = {
    {"drive_id", Need::required_by_firecracker, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { drive(file).block.id = read_id(value); }, "id"},
    {"partuuid", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_plain_text(value, drive(file).partuuid); }},
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
         drive(file).block.queues = read_count(value, devices::virtio::BlockOptions::max_queues, 1);
     }},
    {"serial", Need::optional, Null::means_absent, read_serial},
    {"temporary", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { drive(file).block.temporary = value.boolean().value_or(false); }},
    {"format", Need::optional, Null::means_absent, read_format},
};

void begin(ConfigFile& file) {
    const auto number = devices_of<DriveConfig>(file.config).size();
    begin_device<DriveConfig>(file);
    drive(file).block.id = "drive" + std::to_string(number);
}

/// "ro" and "rw", as mount(8) calls them, in the words of the key; the first word may be a path.
std::string with_mount_words(const std::string& text) {
    std::string out;
    for (std::size_t start = 0; start <= text.size();) {
        const auto end = std::min(text.find(',', start), text.size());
        const auto word = text.substr(start, end - start);
        out += start == 0 ? "" : ",";
        if (word.starts_with("ro="))
            out += "readonly=" + word.substr(3);
        else if (start != 0 && (word == "ro" || word == "rw"))
            out += word == "ro" ? "readonly=on" : "readonly=off";
        else
            out += word;
        start = end + 1;
    }
    return out;
}

Result<void> add(const CommandOption& self, const std::string& text, ConfigFile& file) {
    return add_named(self, "path", with_mount_words(text), file);
}

} // namespace

std::span<const Section> Kind<DriveConfig>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .list = true, .begin = begin}};
    return all;
}

CommandOption Kind<DriveConfig>::option() {
    return {"--disk",
            "FILE[,ro][,temporary]",
            "a disk: an image file or a block device; more keys in docs/config.md",
            "/drives",
            add,
            true};
}

void Kind<DriveConfig>::check(const Config& config, std::vector<Error>& problems) {
    const auto drives = devices_of<DriveConfig>(config);
    check_unique(
        drives, "/drives", [](const auto& drive) { return drive.block.id; }, problems);
    for (std::size_t i = 0; i < drives.size(); ++i)
        if (drives[i]->block.temporary && drives[i]->block.read_only)
            problems.push_back(
                error_at("/drives/" + std::to_string(i) + "/temporary", Errc::config_value,
                         "disk " + in_quotes(drives[i]->block.id) + " is read-only: there are no writes to throw away",
                         "leave out one of the two"));
    if (std::ranges::count_if(drives, [](const auto* drive) { return drive->root; }) > 1)
        problems.push_back(error_at("/drives", Errc::config_value, "more than one disk is the root disk",
                                    "set is_root_device on one drive only", SecondRootDisk{}));
}

void Kind<DriveConfig>::state(State& state, DriveConfig& drive) {
    auto& block = drive.block;
    state.text("id", block.id, most_text);
    state.text("path", block.path, most_text);
    state.flag("read_only", block.read_only);
    state.flag("temporary", block.temporary);
    state.choice("contents", block.contents, devices::virtio::ImageContents::anything);
    state.choice("cache", block.cache, BlockCache::writethrough);
    state.choice("engine", block.engine, BlockEngineKind::io_uring);
    limits_state(state, "limits", block.limits);
    state.number("queues", block.queues, 1U, devices::virtio::BlockOptions::max_queues);
    state.text("serial", block.serial, devices::virtio::BlockOptions::longest_serial);
    state.flag("root", drive.root);
    state.text("partuuid", drive.partuuid, most_text);
}

} // namespace inox
