// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_file.hpp"

#include <algorithm>
#include <array>

#include "vmm/machine/config_json.hpp"
#include "vmm/machine/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace vmm {
namespace {

enum class Need : std::uint8_t { optional, required, required_by_firecracker };
enum class Null : bool { refused, means_absent };

/// One key of a section. `read` stores the value, or reports why not.
struct Field {
    std::string_view name;
    Need need;
    Null null;
    void (*read)(const JsonValue& value, ConfigFile& file);
    std::string_view option_key{}; ///< shorter name in the command line's key=value form
};

/// A top-level object; with `append` an array of them; or, with `missing_part`, one that this version cannot serve.
struct Section {
    std::string_view name;
    Need need{Need::optional};
    std::span<const Field> fields{};
    std::string_view missing_part{};
    std::string_view hint{};
    void (*append)(ConfigFile& file){}; ///< makes the element that the fields then fill
};

// ---- boot-source -------------------------------------------------------------------------------------------------

void read_text(const JsonValue& value, std::string& out) {
    if (auto text = value.text())
        out = std::move(*text);
}

void read_path(const JsonValue& value, std::string& out) {
    const auto text = value.text();
    if (text && text->empty())
        value.report(Errc::config_value, "the path is empty", "name a file, or leave the key away");
    else
        out = text.value_or("");
}

constexpr Field boot_source[] = {
    {"kernel_image_path", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.config.boot.kernel); }},
    {"initrd_path", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.config.boot.initrd); }},
    {"boot_args", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_text(value, file.config.boot.cmdline); }},
};

// ---- machine-config ----------------------------------------------------------------------------------------------

void read_cpus(const JsonValue& value, ConfigFile& file) {
    if (const auto cpus = value.number(UINT32_MAX, Errc::cpus_invalid))
        file.config.machine.cpus = static_cast<unsigned>(*cpus);
}

void read_memory(const JsonValue& value, ConfigFile& file) {
    static constexpr std::uint64_t largest = UINT64_MAX / MiB;
    if (const auto mib = value.number(largest, Errc::memory_invalid))
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
                     "leave cpu_template away: the guest then sees the host's CPU");
}

void read_track_dirty_pages(const JsonValue& value, ConfigFile& /*file*/) {
    if (value.boolean().value_or(false))
        value.report(Errc::unsupported, "tracking of dirty pages is not in this version of inox",
                     "it serves snapshots, which inox does not have yet: set it to false");
}

constexpr Field machine_config[] = {
    {"vcpu_count", Need::required_by_firecracker, Null::refused, read_cpus},
    {"mem_size_mib", Need::required_by_firecracker, Null::refused, read_memory},
    {"smt", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         file.config.machine.smt = value.boolean().value_or(file.config.machine.smt);
     }},
    {"cpu_template", Need::optional, Null::means_absent, read_cpu_template},
    {"track_dirty_pages", Need::optional, Null::refused, read_track_dirty_pages},
    {"huge_pages", Need::optional, Null::refused, read_huge_pages},
};

// ---- logger ------------------------------------------------------------------------------------------------------

void read_level(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (!text)
        return;
    file.log.level = parse_log_level(*text);
    if (!file.log.level)
        value.report(Errc::config_value, in_quotes(*text) + " is no log level",
                     "use Off, Error, Warning, Info, Debug or Trace");
}

constexpr Field logger[] = {
    {"log_path", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.log.path); }},
    {"level", Need::optional, Null::means_absent, read_level},
    {"show_level", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& /*file*/) { static_cast<void>(value.boolean()); }}, // lines always have it
    {"show_log_origin", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& /*file*/) {
         if (value.boolean().value_or(false))
             value.report(Errc::unsupported, "source positions in log lines are not in this version of inox",
                          "set show_log_origin to false");
     }},
};

// ---- inox --------------------------------------------------------------------------------------------------------

void read_timeout(const JsonValue& value, ConfigFile& file) {
    if (!value.json().is_string() && !value.json().is_number_unsigned())
        return value.report_type("a time such as \"60s\" or a number of seconds");
    const std::string text = value.json().is_string() ? value.text().value_or("") : value.json().dump();
    file.run.timeout = parse_duration(text);
    if (!file.run.timeout)
        value.report(Errc::config_value, in_quotes(text) + " is no time", "write 500ms, 60s, 2m or 1h");
}

void read_expect(const JsonValue& value, ConfigFile& file) {
    read_text(value, file.run.expect);
    if (const auto why = regex_problem(file.run.expect))
        value.report(Errc::config_value, "not a regular expression: " + *why, "escape ( ) [ ] { } . * + ? | with \\");
}

void read_boot_timeline(const JsonValue& value, ConfigFile& file) {
    read_path(value, file.run.boot_timeline);
    const auto& path = file.run.boot_timeline;
    if (!path.empty() && !path.ends_with(".json") && !path.ends_with(".svg"))
        value.report(Errc::config_value, in_quotes(path) + " ends neither in .json nor in .svg",
                     "the ending chooses the form");
}

constexpr Field inox_section[] = {
    {"timeout", Need::optional, Null::refused, read_timeout},
    {"expect", Need::optional, Null::refused, read_expect},
    {"serial_log", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.run.serial_log); }},
    {"boot_timeline", Need::optional, Null::refused, read_boot_timeline},
    {"quiet", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { file.run.quiet = value.boolean().value_or(file.run.quiet); }},
};

// ---- shares ------------------------------------------------------------------------------------------------------

constexpr Field shares[] = {
    {"tag", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_text(value, file.config.shares.back().tag); }},
    {"socket", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.config.shares.back().socket); }},
};

constexpr std::string_view boot_from_initrd = "remove the key; boot from an initrd";
constexpr std::string_view remove_key = "remove the key";

constexpr Section sections[] = {
    {"boot-source", Need::required_by_firecracker, boot_source},
    {"machine-config", Need::optional, machine_config},
    {"logger", Need::optional, logger},
    {"inox", Need::optional, inox_section},
    {"shares", Need::optional, shares, {}, {}, [](ConfigFile& file) { file.config.shares.emplace_back(); }},
    {"drives", Need::optional, {}, "disks", boot_from_initrd},
    {"network-interfaces", Need::optional, {}, "network interfaces", remove_key},
    {"vsock", Need::optional, {}, "vsock", remove_key},
    {"balloon", Need::optional, {}, "memory balloon", remove_key},
    {"entropy", Need::optional, {}, "entropy device", remove_key},
    {"pmem", Need::optional, {}, "persistent memory", boot_from_initrd},
    {"memory-hotplug", Need::optional, {}, "memory hot-plug", remove_key},
    {"cpu-config", Need::optional, {}, "CPU configuration", remove_key},
    {"metrics", Need::optional, {}, "metrics", remove_key},
    {"mmds-config", Need::optional, {}, "metadata service", remove_key},
    {"device-passthrough", Need::optional, {}, "device assignment", remove_key},
};

// ---- the walk ----------------------------------------------------------------------------------------------------

template <class Rows> void report_unknown(const std::string& key, const Rows& rows, const JsonValue& value) {
    std::vector<std::string_view> known;
    for (const auto& row : rows)
        known.push_back(row.name);
    value.report(Errc::config_unknown_key, "unknown key " + in_quotes(key),
                 suggestion(key, known, "the keys here are " + list_text(known)));
}

bool is_needed(Need need, Dialect dialect) {
    return need == Need::required || (need == Need::required_by_firecracker && dialect == Dialect::firecracker);
}

class Reader {
public:
    Reader(ParsedConfig& out, Dialect dialect) : out_{out}, dialect_{dialect} {}

    void read(const nlohmann::json& root) {
        const JsonValue whole{root, "", out_.problems};
        if (!root.is_object())
            return whole.report_type("an object");
        for (const auto& [key, json] : root.items()) {
            if (key == "$schema") // for editors
                continue;
            const JsonValue value{json, json_pointer("", key), out_.problems};
            const auto section = std::ranges::find(sections, key, &Section::name);
            if (section != std::end(sections))
                read_section(*section, value);
            else if (dialect_ == Dialect::firecracker)
                out_.ignored.push_back(printable(key));
            else
                report_unknown(key, sections, value);
        }
        for (const auto& section : sections)
            report_missing(section, whole);
    }

private:
    void read_section(const Section& section, const JsonValue& value) {
        const auto& json = value.json();
        if (!section.missing_part.empty()) {
            if (!json.is_null() && !(json.is_array() && json.empty()))
                value.report(Errc::unsupported, "this version of inox has no " + std::string{section.missing_part},
                             std::string{section.hint});
            return;
        }
        if (json.is_null() && !is_needed(section.need, dialect_))
            return;
        if (section.append == nullptr)
            return read_object(section, value);
        if (!json.is_array())
            return value.report_type("an array");
        for (std::size_t i = 0; i < json.size(); ++i)
            read_element(section, {json[i], json_pointer(value.pointer(), std::to_string(i)), out_.problems});
    }

public:
    /// One more element of a list section.
    void read_element(const Section& section, const JsonValue& value) {
        section.append(out_.file);
        read_object(section, value);
    }

private:
    void read_object(const Section& section, const JsonValue& value) {
        if (!value.json().is_object())
            return value.report_type("an object");
        for (const auto& [key, member] : value.json().items())
            read_field(section, key, {member, json_pointer(value.pointer(), key), out_.problems});
        for (const auto& field : section.fields)
            report_missing(field, value);
    }

    void read_field(const Section& section, const std::string& key, const JsonValue& value) {
        const auto field = std::ranges::find_if(section.fields, [&](const Field& one) {
            return one.name == key || (!one.option_key.empty() && one.option_key == key);
        });
        if (field == section.fields.end())
            return report_unknown(key, section.fields, value);
        if (!value.json().is_null() || field->null == Null::refused)
            field->read(value, out_.file);
    }

    template <class Row> void report_missing(const Row& row, const JsonValue& object) {
        if (!is_needed(row.need, dialect_) || object.json().contains(row.name))
            return;
        if constexpr (requires { row.option_key; })
            if (!row.option_key.empty() && object.json().contains(row.option_key))
                return;
        object.report(Errc::config_missing_key, "the key " + in_quotes(row.name) + " is missing", "add it");
    }

    ParsedConfig& out_;
    Dialect dialect_;
};

void set_default_cmdline(const nlohmann::json& root, ConfigFile& file, Dialect dialect) {
    static const nlohmann::json::json_pointer boot_args{"/boot-source/boot_args"};
    if (!file.config.boot.kernel.empty() && (!root.contains(boot_args) || root.at(boot_args).is_null()))
        file.config.boot.cmdline = dialect == Dialect::inox ? default_cmdline : firecracker_cmdline;
}

/// A problem of reading that makes one of check() say nothing new.
bool explains(const Error& known, const Error& problem) {
    return known.where == problem.where ||
           (problem.code == Errc::config_missing_key && known.where.starts_with("/boot-source"));
}

} // namespace

ParsedConfig parse_config(std::string_view text, Dialect dialect) {
    ParsedConfig out;
    auto json = read_json(text);
    out.problems = std::move(json.problems);
    if (json.root.is_null() && !out.problems.empty())
        return out;
    Reader{out, dialect}.read(json.root);
    set_default_cmdline(json.root, out.file, dialect);
    const auto known = out.problems;
    for (auto& problem : check(out.file.config))
        if (std::ranges::none_of(known, [&](const Error& one) { return explains(one, problem); }))
            out.problems.push_back(std::move(problem));
    return out;
}

void read_list_option(std::string_view section_name, std::string_view text, ConfigFile& file,
                      std::vector<Error>& problems) {
    const auto section = std::ranges::find(sections, section_name, &Section::name);
    ParsedConfig parsed;
    auto values = read_key_values(text);
    parsed.problems = std::move(values.problems);
    std::swap(parsed.file, file);
    Reader{parsed, Dialect::inox}.read_element(*section,
                                               {values.root, json_pointer("", section_name), parsed.problems});
    std::swap(parsed.file, file);
    std::ranges::move(parsed.problems, std::back_inserter(problems));
}

std::vector<ConfigKey> config_keys() {
    std::vector<ConfigKey> keys;
    for (const auto& section : sections) {
        keys.push_back({json_pointer("", section.name), section.missing_part.empty()});
        for (const auto& field : section.fields)
            keys.push_back({json_pointer(json_pointer("", section.name), field.name), true});
    }
    return keys;
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

} // namespace vmm
