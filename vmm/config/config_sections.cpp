// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_sections.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>

#include "devices/virtio/vsock/listener.hpp"
#include "iommu/pasid/ioasid_types.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/base/outside/given_socket.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {

std::string read_id(const JsonValue& value) {
    auto text = value.text().value_or("");
    if (!is_id(text))
        value.report(Errc::config_value, in_quotes(text) + " is not an id", id_rule);
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

void read_limits(const JsonValue& value, devices::RateLimits& out) {
    if (!value.json().is_object())
        return value.report_type(JsonType::object);
    for (const auto& [key, member] : value.json().items())
        if (key != "bandwidth" && key != "ops")
            value.member(key, member).report_unknown(key, {"bandwidth", "ops"});
    const auto bucket = [&](const char* name) -> std::optional<devices::BucketLimits> {
        if (!value.json().contains(name))
            return std::nullopt;
        return read_bucket({value.json().at(name), json_pointer(value.pointer(), name), value.problems()});
    };
    out.bandwidth = bucket("bandwidth");
    out.ops = bucket("ops");
}

std::uint64_t read_limit(const JsonValue& value, std::uint64_t least, std::uint64_t most) {
    return value.number({least, most}, Errc::config_value).value_or(least);
}

void read_text(const JsonValue& value, std::string& out) {
    if (auto text = value.text())
        out = std::move(*text);
}

void read_plain_text(const JsonValue& value, std::string& out) {
    read_text(value, out);
    if (std::ranges::none_of(out, [](unsigned char c) { return std::iscntrl(c) != 0; }))
        return;
    value.report(Errc::config_value, in_quotes(out) + " holds a control character", "use characters that can be read");
    out.clear();
}

void read_name(const JsonValue& value, const char* what, std::string& out) {
    const auto text = value.text();
    if (text && text->empty())
        value.report(Errc::config_value, std::string{what} + " is empty", "name one, or leave out the key");
    else
        out = text.value_or("");
}

void read_path(const JsonValue& value, std::string& out) {
    const auto text = value.text();
    if (text && text->empty())
        value.report(Errc::config_value, "the path is empty", "name a file, or leave out the key");
    else
        out = path_below(value.folder(), text.value_or(""));
}

void read_socket_path(const JsonValue& value, std::string& out) {
    static constexpr std::size_t longest = devices::virtio::VsockListener::longest_path;
    read_path(value, out);
    if (out.size() <= longest)
        return;
    value.report(Errc::config_value,
                 format("a socket path of %zu bytes: a unix socket takes at most %zu", out.size(), longest),
                 "use a shorter path");
    out.clear();
}

void read_vsock_path(const JsonValue& value, std::string& out) {
    read_path(value, out);
    const auto problem = out.empty() ? "" : devices::virtio::VsockListener::length_problem(out.size());
    if (problem.empty())
        return;
    value.report(Errc::config_value, problem, "use a shorter path");
    out.clear();
}

unsigned read_count(const JsonValue& value, unsigned most, unsigned otherwise) {
    return static_cast<unsigned>(value.number({1, most}, Errc::config_value).value_or(otherwise));
}

namespace {

// Boot-source

constexpr Field boot_source[] = {
    {"kernel_image_path", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.config.boot.kernel); }},
    {"initrd_path", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.config.boot.initrd); }},
    {"boot_args", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_text(value, file.config.boot.cmdline); }},
};

// Machine-config

void read_cpus(const JsonValue& value, ConfigFile& file) {
    if (const auto cpus = value.number({0, UINT8_MAX}, Errc::cpus_invalid, {1, file.config.machine.most_cpus}))
        file.config.machine.cpus = static_cast<unsigned>(*cpus);
}

void read_memory(const JsonValue& value, ConfigFile& file) {
    static constexpr std::uint64_t largest = UINT64_MAX / MiB;
    if (const auto mib = value.number({0, largest}, Errc::memory_invalid,
                                      {align_up(layout::min_ram, MiB) / MiB, layout::max_ram / MiB}))
        file.config.machine.memory = *mib * MiB;
}

void read_huge_pages(const JsonValue& value, ConfigFile& file) {
    static constexpr std::string_view names[] = {"None", "Transparent", "2M"};
    static_assert(static_cast<int>(HugePages::none) == 0 && static_cast<int>(HugePages::transparent) == 1 &&
                  static_cast<int>(HugePages::two_mib) == 2);
    if (const auto index = value.one_of(names))
        file.config.machine.huge_pages = static_cast<HugePages>(*index);
}

void read_cpu_template(const JsonValue& value, ConfigFile& /*file*/) {
    static constexpr std::string_view names[] = {"None", "C3", "T2", "T2S", "T2CL", "T2A"};
    if (value.one_of(names).value_or(0) != 0)
        value.report(Errc::unsupported, "CPU templates are not in this version of inox",
                     "leave out cpu_template: the guest then sees the host's CPU");
}

constexpr Field machine_config[] = {
    {"vcpu_count", Need::required_by_firecracker, Null::refused, read_cpus},
    {"mem_size_mib", Need::required_by_firecracker, Null::refused, read_memory},
    {"smt", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.config.machine.smt = value.boolean().value_or(file.config.machine.smt);
     }},
    {"cpu_template", Need::optional, Null::means_absent, read_cpu_template},
    {"track_dirty_pages", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         auto& track = file.config.machine.track_dirty_pages;
         track = value.boolean().value_or(track);
     }},
    {"huge_pages", Need::optional, Null::refused, read_huge_pages},
};

// Inox

std::optional<std::chrono::milliseconds> read_time(const JsonValue& value) {
    if (!value.json().is_string() && !value.json().is_number()) {
        value.report_type(JsonType::text, "a time such as \"60s\" or a number of seconds");
        return std::nullopt;
    }
    const std::string text = value.json().is_string() ? value.text().value_or("") : value.json().dump();
    const auto time = parse_duration(text);
    if (!time)
        value.report(Errc::config_value, no_duration(text), duration_rule);
    return time;
}

void read_expect(const JsonValue& value, ConfigFile& file) {
    read_text(value, file.run.expect);
    if (const auto why = regex_problem(file.run.expect))
        value.report(Errc::config_value, "not a regular expression: " + *why, "escape ( ) [ ] { } . * + ? | with \\");
}

void read_fail_on(const JsonValue& value, ConfigFile& file) {
    if (!value.json().is_array())
        return value.report_type(JsonType::array);
    file.run.fail_on.clear();
    for (std::size_t i = 0; i < value.json().size(); ++i) {
        const JsonValue one{value.json()[i], json_pointer(value.pointer(), std::to_string(i)), value.problems()};
        const auto text = one.text();
        if (text && text->empty())
            one.report(Errc::config_value, "the expression is empty", "write a part of a line, or the word kernel");
        else if (const auto why = text ? regex_problem(*text) : std::nullopt)
            one.report(Errc::config_value, "not a regular expression: " + *why, "escape ( ) [ ] { } . * + ? | with \\");
        else if (text)
            file.run.fail_on.push_back(*text);
    }
}

void read_gdb(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (!text)
        return;
    if (auto parsed = parse_gdb(*text)) {
        parsed->socket = path_below(value.folder(), std::move(parsed->socket));
        file.run.gdb = std::move(*parsed);
    } else
        value.report(Errc::config_value, parsed.error().what, parsed.error().hint);
}

void read_boot_timeline(const JsonValue& value, ConfigFile& file) {
    read_path(value, file.run.boot_timeline);
    const auto& path = file.run.boot_timeline;
    if (!path.empty() && !path.ends_with(".json") && !path.ends_with(".svg"))
        value.report(Errc::config_value, in_quotes(path) + " ends neither in .json nor in .svg",
                     "the ending chooses the format");
}

void read_on_panic(const JsonValue& value, ConfigFile& file) {
    if (const auto index = value.one_of(panic_words))
        file.config.machine.end_on_panic = *index == 1;
}

void read_console_overflow(const JsonValue& value, ConfigFile& file) {
    if (const auto index = value.one_of(overflow_words))
        file.run.console_overflow = static_cast<ConsoleOverflow>(*index);
}

void read_keep_fds(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (!text)
        return;
    file.run.keep_fds = descriptors::parse_list(*text);
    if (file.run.keep_fds.empty())
        value.report(Errc::config_value, in_quotes(*text) + " is not a list of descriptors",
                     "write numbers from 3 on, such as 5 or 5,6");
}

void read_group(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (text && text->empty())
        value.report(Errc::config_value, "the group is empty", "name a group of /etc/group, or leave out the key");
    else
        file.api.group = text.value_or("");
}

template <std::optional<std::uint64_t> PciWindows::*window> void read_window(const JsonValue& value, ConfigFile& file) {
    constexpr auto most = window == &PciWindows::bars_32 ? PciWindows::most_32 : PciWindows::most_64;
    if (const auto mib = value.number({0, UINT64_MAX / MiB}, Errc::config_value, {PciWindows::unit / MiB, most / MiB}))
        file.config.machine.windows.*window = *mib * MiB;
}

constexpr Field inox_section[] = {
    {"timeout", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { file.run.timeout = read_time(value); }},
    {"expect", Need::optional, Null::refused, read_expect},
    {"serial_log", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.run.serial_log); }},
    {"console_overflow", Need::optional, Null::refused, read_console_overflow},
    {"keep_fds", Need::optional, Null::refused, read_keep_fds},
    {"allow", Need::optional, Null::refused, read_allow},
    {"fail_on", Need::optional, Null::refused, read_fail_on},
    {"quiet_for", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { file.run.quiet_for = read_time(value); }},
    {"symbols", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.run.symbols); }},
    {"result", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.run.result); }},
    {"exits", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.run.exits); }},
    {"dump_on_panic", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.run.dump_on_panic); }},
    {"gdb", Need::optional, Null::refused, read_gdb},
    {"boot_timeline", Need::optional, Null::refused, read_boot_timeline},
    {"api_sock", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         read_socket_path(value, file.api.socket);
         if (auto text = value.text().value_or(""); given_socket::number(text))
             file.api.socket = std::move(text); // not a path, so not one in the file's folder
     }},
    {"id", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { file.api.id = read_id(value); }},
    {"api_group", Need::optional, Null::refused, read_group},
    {"api_connections", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.api.connections = read_count(value, ApiConfig::most_connections, 1);
     }},
    {"on_panic", Need::optional, Null::refused, read_on_panic},
    {"panic_text", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.config.machine.panic_text = value.boolean().value_or(file.config.machine.panic_text);
     }},
    {"on_reboot", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         if (const auto index = value.one_of(reboot_words))
             file.run.on_reboot = static_cast<OnReboot>(*index);
     }},
    {"grace", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { file.run.grace = read_time(value); }},
    {"pci_window_32_mib", Need::optional, Null::means_absent, read_window<&PciWindows::bars_32>},
    {"pci_window_64_mib", Need::optional, Null::means_absent, read_window<&PciWindows::bars_64>},
    {"seccomp", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         if (const auto index = value.one_of(seccomp_words))
             file.run.seccomp = static_cast<Seccomp>(*index);
     }},
    {"quiet", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { file.run.quiet = value.boolean().value_or(file.run.quiet); }},
};

constexpr Field pasid_section[] = {
    {"quota", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.config.pasid->quota = static_cast<std::uint32_t>(read_limit(value, 1, iommu::max_ioasid));
     }},
};

template <std::string boot::SmbiosSystem::*text> void read_smbios(const JsonValue& value, ConfigFile& file) {
    auto& out = file.config.smbios.*text;
    read_plain_text(value, out);
    if (out.size() > boot::SmbiosSystem::longest)
        value.report(Errc::config_value, format("a text of %zu bytes", out.size()),
                     format("use at most %zu", boot::SmbiosSystem::longest));
}

void read_uuid(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (!text)
        return;
    file.config.smbios.uuid = boot::parse_uuid(*text);
    if (!file.config.smbios.uuid)
        value.report(Errc::config_value, in_quotes(*text) + " is not a UUID", "uuidgen prints one");
}

constexpr Field smbios_section[] = {
    {"serial", Need::optional, Null::refused, read_smbios<&boot::SmbiosSystem::serial>},
    {"uuid", Need::optional, Null::refused, read_uuid},
    {"manufacturer", Need::optional, Null::refused, read_smbios<&boot::SmbiosSystem::manufacturer>},
    {"product", Need::optional, Null::refused, read_smbios<&boot::SmbiosSystem::product>},
    {"version", Need::optional, Null::refused, read_smbios<&boot::SmbiosSystem::version>},
    {"sku", Need::optional, Null::refused, read_smbios<&boot::SmbiosSystem::sku>},
    {"family", Need::optional, Null::refused, read_smbios<&boot::SmbiosSystem::family>},
};

constexpr std::string_view remove_key = "remove the key";

} // namespace

std::span<const Section> config_sections() {
    static const std::vector<Section> sections = [] {
        std::vector<Section> all{
            {.name = "boot-source", .need = Need::required_by_firecracker, .fields = boot_source},
            {.name = "machine-config", .fields = machine_config},
            {.name = "logger", .fields = logger_fields()},
            {.name = "metrics",
             .fields = metrics_fields(),
             .begin = [](ConfigFile& file) { file.metrics.emplace(); },
             .ignores_unknown = true},
            {.name = "serial", .fields = serial_fields()},
            {.name = "mmds-config", .fields = mmds_fields(), .begin = [](ConfigFile& file) { file.mmds.emplace(); }},
            {.name = "cpu-config",
             .fields = cpu_fields(),
             .begin = [](ConfigFile& file) { file.config.machine.cpuid.clear(); }},
            {.name = "inox", .fields = inox_section},
            {.name = "root", .fields = root_fields(), .begin = [](ConfigFile& file) { file.config.root.emplace(); }},
            {.name = "command",
             .fields = command_fields(),
             .begin = [](ConfigFile& file) { file.config.command.emplace(); }},
            {.name = "test", .fields = test_fields(), .begin = [](ConfigFile& file) { file.test = {}; }},
            {.name = "pasid", .fields = pasid_section, .begin = [](ConfigFile& file) { file.config.pasid.emplace(); }},
            {.name = "smbios", .fields = smbios_section},
            {.name = "pmem", .missing_part = "persistent memory", .hint = remove_key},
            {.name = "memory-hotplug", .missing_part = "memory hot-plug", .hint = remove_key},
        };
        DeviceKinds::each(
            [&]<class Options>() { std::ranges::copy(Kind<Options>::sections(), std::back_inserter(all)); });
        return all;
    }();
    return sections;
}

std::optional<log::Level> parse_log_level(std::string_view text) {
    static constexpr std::array<std::pair<std::string_view, log::Level>, 7> names{{{"off", log::Level::off},
                                                                                   {"error", log::Level::error},
                                                                                   {"warning", log::Level::warning},
                                                                                   {"warn", log::Level::warning},
                                                                                   {"info", log::Level::info},
                                                                                   {"debug", log::Level::debug},
                                                                                   {"trace", log::Level::trace}}};
    const auto equal = [&](const auto& row) {
        return std::ranges::equal(row.first, text,
                                  [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + 32 : b); });
    };
    const auto found = std::ranges::find_if(names, equal);
    return found == names.end() ? std::nullopt : std::optional{found->second};
}

} // namespace inox
