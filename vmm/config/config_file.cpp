// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_file.hpp"

#include <algorithm>

#include "vmm/config/config_json.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

template <class Rows> void report_unknown(const std::string& key, const Rows& rows, const JsonValue& value) {
    Names known;
    for (const auto& row : rows) {
        known.push_back(row.name);
        if constexpr (requires { row.option_key; })
            if (value.form() == JsonValue::Form::words && !row.option_key.empty())
                known.back() = row.option_key;
    }
    value.report_unknown(key, std::move(known));
}

/// `required`: the dialect whose keys must be there; nullopt: none must.
bool is_needed(Need need, std::optional<Dialect> required) {
    return required &&
           (need == Need::required || (need == Need::required_by_firecracker && *required == Dialect::firecracker));
}

class Reader {
public:
    Reader(ParsedConfig& out, Dialect dialect, std::string_view folder = {}) : Reader{out, dialect, dialect} {
        folder_ = folder;
    }
    Reader(ParsedConfig& out, Dialect dialect, std::optional<Dialect> required)
        : out_{out}, dialect_{dialect}, required_{required} {}

    void read(const nlohmann::json& root) {
        const JsonValue whole{root, "", out_.problems};
        if (!root.is_object())
            return whole.report_type(JsonType::object);
        for (const auto& [key, json] : root.items()) {
            if (key == "$schema") // for editors
                continue;
            const JsonValue value{{json, json_pointer("", key), out_.problems}, folder_};
            const auto section = std::ranges::find(sections_, key, &Section::name);
            if (section != sections_.end())
                read_section(*section, value);
            else if (dialect_ == Dialect::firecracker)
                out_.ignored.push_back(printable(key));
            else
                report_unknown(key, sections_, value);
        }
        for (const auto& section : sections_)
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
        if (json.is_null() && !is_needed(section.need, required_))
            return;
        if (!section.list)
            return read_object(section, value);
        if (!json.is_array())
            return value.report_type(JsonType::array);
        for (std::size_t i = 0; i < json.size(); ++i)
            read_object(section, {{json[i], json_pointer(value.pointer(), std::to_string(i)), out_.problems}, folder_});
    }

public:
    /// The object that a section is, or one more element of it.
    void read_object(const Section& section, const JsonValue& value) {
        if (!value.json().is_object())
            return value.report_type(JsonType::object);
        if (section.begin != nullptr)
            section.begin(out_.file);
        for (const auto& [key, member] : value.json().items())
            read_field(section, key, value.member(key, member));
        for (const auto& field : section.fields) {
            report_missing(field, value);
            report_both(field, value);
        }
    }

private:
    void read_field(const Section& section, const std::string& key, const JsonValue& value) {
        const auto field = std::ranges::find_if(section.fields, [&](const Field& one) {
            return one.name == key || (dialect_ == Dialect::inox && !one.option_key.empty() && one.option_key == key);
        });
        if (field == section.fields.end() && section.ignores_unknown && dialect_ == Dialect::firecracker)
            return out_.ignored.push_back(printable(value.pointer()));
        if (field == section.fields.end())
            return report_unknown(key, section.fields, value);
        if (!value.json().is_null() || (field->null == Null::refused && required_))
            field->read(value, out_.file);
    }

    template <class Row> void report_missing(const Row& row, const JsonValue& object) {
        if (!is_needed(row.need, required_) || object.json().contains(row.name))
            return;
        if constexpr (requires { row.option_key; })
            if ((!row.option_key.empty() && object.json().contains(row.option_key)) ||
                std::ranges::any_of(row.unless, [&](auto key) { return object.json().contains(key); }))
                return;
        std::string_view name = row.name;
        if constexpr (requires { row.option_key; })
            if (object.form() == JsonValue::Form::words && !row.option_key.empty())
                name = row.option_key;
        object.report_missing(name);
    }

    /// One key by its two names: which value counts would be a matter of the alphabet.
    void report_both(const Field& field, const JsonValue& object) {
        if (dialect_ != Dialect::inox || field.option_key.empty() || field.option_key == field.name ||
            !object.json().contains(field.name) || !object.json().contains(field.option_key))
            return;
        const std::string name{field.name};
        const std::string alias{field.option_key};
        object.member(name, object.json().at(name))
            .report(Errc::config_syntax, in_quotes(alias) + " is another name of the key " + in_quotes(name),
                    "keep one of them", DuplicateKey{});
    }

    ParsedConfig& out_;
    Dialect dialect_;
    std::optional<Dialect> required_;
    std::string_view folder_{};
    std::span<const Section> sections_{config_sections()};
};

void set_default_cmdline(const nlohmann::json& root, ConfigFile& file, Dialect dialect) {
    static const nlohmann::json::json_pointer boot_args{"/boot-source/boot_args"};
    if (!file.config.boot.kernel.empty() && (!root.contains(boot_args) || root.at(boot_args).is_null()))
        use_default_cmdline(file.config.boot, dialect == Dialect::inox ? default_cmdline : firecracker_cmdline);
}

constexpr std::string_view interfaces_key = "/mmds-config/network_interfaces";

/// Whether a problem of reading (`known`) makes one that check() found superfluous.
bool explains(const Error& known, const Error& problem) {
    return known.where == problem.where || (known.where == "/mmds-config" && problem.where == interfaces_key) ||
           (problem.code == Errc::config_missing_key &&
            (known.where.starts_with("/boot-source") || known.where.starts_with("/test/kernels") ||
             known.where.starts_with(problem.where + "/")));
}

} // namespace

std::optional<Error> check_metadata(const ConfigFile& file) {
    if (file.mmds && file.mmds->interfaces.empty())
        return error_at(std::string{interfaces_key}, Errc::config_value, "the metadata service answers on no interface",
                        "name one, or leave out mmds-config");
    if (file.mmds)
        for (const auto& id : file.mmds->interfaces)
            if (std::ranges::none_of(devices_of<devices::virtio::NetOptions>(file.config),
                                     [&](const auto* net) { return net->id == id; }))
                return error_at(std::string{interfaces_key}, Errc::config_value,
                                "the metadata service shall answer on the interface " + in_quotes(id) +
                                    ", which does not exist",
                                "configure the interface '" + id + "'", NoSuchInterface{});
    return std::nullopt;
}

std::optional<Error> check_partitions(const Config& config) {
    const auto drives = devices_of<DriveConfig>(config);
    for (std::size_t i = 0; i < drives.size(); ++i)
        if (const auto& drive = *drives[i]; !drive.partuuid.empty() && !drive.root)
            return error_at("/drives/" + std::to_string(i) + "/partuuid", Errc::config_value,
                            "the partition " + in_quotes(drive.partuuid) + " of disk " + in_quotes(drive.block.id) +
                                " has no effect: it is not the root disk",
                            "set is_root_device (root=on), or leave out partuuid");
    return std::nullopt;
}

ConfigFile initial_config(Dialect dialect) {
    ConfigFile file;
    if (dialect == Dialect::inox) {
        file.config.machine.huge_pages = HugePages::transparent;
        file.config.machine.most_cpus = layout::max_cpus;
    }
    return file;
}

std::vector<Error> check_rules(const ConfigFile& file, Dialect dialect, std::span<const Error> known) {
    auto rules = check(file.config);
    if (auto metadata = check_metadata(file))
        rules.push_back(std::move(*metadata));
    if (auto partition = check_partitions(file.config); partition && dialect == Dialect::inox)
        rules.push_back(std::move(*partition));
    std::erase_if(rules, [&](const Error& problem) {
        return std::ranges::any_of(known, [&](const Error& one) { return explains(one, problem); });
    });
    return rules;
}

ParsedConfig parse_config(std::string_view text, Dialect dialect, Transport transport, std::string_view folder,
                          Rules rules) {
    ParsedConfig out{.file = initial_config(dialect)};
    out.file.config.machine.transport = transport;
    auto json = read_json(text);
    out.problems = std::move(json.problems);
    if (json.root.is_null() && !out.problems.empty())
        return out;
    Reader{out, dialect, folder}.read(json.root);
    set_default_cmdline(json.root, out.file, dialect);
    if (rules == Rules::later)
        return out;
    auto whole = out.file;
    if (whole.config.boot.kernel.empty() && !whole.test.kernels.empty())
        whole.config.boot.kernel = whole.test.kernels.front();
    std::ranges::move(check_rules(whole, dialect, out.problems), std::back_inserter(out.problems));
    return out;
}

ParsedSection parse_section(std::string_view name, const nlohmann::json& value, ConfigFile seed,
                            std::optional<Dialect> required) {
    ParsedSection out;
    const auto all = config_sections();
    const auto section = std::ranges::find(all, name, &Section::name);
    ParsedConfig parsed;
    parsed.file = std::move(seed);
    Reader{parsed, Dialect::firecracker, required}.read_object(*section, {value, "", parsed.problems});
    if (value.is_object())
        for (const auto& [key, member] : value.items())
            if (!member.is_null())
                out.keys.push_back(key);
    out.file = std::move(parsed.file);
    out.problems = std::move(parsed.problems);
    return out;
}

void read_list_option(std::string_view section_name, std::string_view text, ConfigFile& file,
                      std::vector<Error>& problems) {
    const auto all = config_sections();
    const auto section = std::ranges::find(all, section_name, &Section::name);
    ParsedConfig parsed;
    auto values = read_key_values(text);
    parsed.problems = std::move(values.problems);
    std::swap(parsed.file, file);
    Reader{parsed, Dialect::inox}.read_object(
        *section, {values.root, json_pointer("", section_name), parsed.problems, JsonValue::Form::words});
    std::swap(parsed.file, file);
    std::ranges::move(parsed.problems, std::back_inserter(problems));
}

std::vector<ConfigKey> config_keys() {
    std::vector<ConfigKey> keys;
    for (const auto& section : config_sections()) {
        keys.push_back({json_pointer("", section.name), section.missing_part.empty()});
        for (const auto& field : section.fields)
            keys.push_back({json_pointer(json_pointer("", section.name), field.name), true});
    }
    return keys;
}

} // namespace inox
