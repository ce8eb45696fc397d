// SPDX-License-Identifier: Apache-2.0
// The keys of what surrounds the guest: log, metrics, serial output, metadata, CPUID.
#include <algorithm>
#include <arpa/inet.h>
#include <charconv>

#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

/// Calls `element` with each value of an array, `field` with each member of an object; reports other types.
template <class F> void for_each_element(const JsonValue& array, F&& element) {
    if (!array.json().is_array())
        return array.report_type(JsonType::array);
    for (std::size_t i = 0; i < array.json().size(); ++i)
        element(JsonValue{array.json()[i], json_pointer(array.pointer(), std::to_string(i)), array.problems()});
}

bool check_keys(const JsonValue& object, std::initializer_list<std::string_view> required,
                std::initializer_list<std::string_view> optional) {
    if (!object.json().is_object()) {
        object.report_type(JsonType::object);
        return false;
    }
    const auto before = object.problems().size();
    Names known{required};
    known.insert(known.end(), optional);
    for (const auto& [key, value] : object.json().items())
        if (std::ranges::find(known, key) == known.end())
            object.member(key, value).report_unknown(key, known);
    for (const auto& key : required)
        if (!object.json().contains(key))
            object.report_missing(key);
    return object.problems().size() == before;
}

JsonValue member(const JsonValue& object, std::string_view key) {
    return {object.json().at(std::string{key}), json_pointer(object.pointer(), key), object.problems()};
}

// Logger, metrics, serial

void read_level(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (!text)
        return;
    file.log.level = parse_log_level(*text);
    if (!file.log.level)
        value.problems().push_back(
            not_one_of(*text, {"Off", "Error", "Warning", "Info", "Debug", "Trace"}, value.pointer()));
}

constexpr Field logger[] = {
    {"log_path", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.log.path); }},
    {"level", Need::optional, Null::means_absent, read_level},
    {"show_level", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { file.log.show_level = value.boolean(); }},
    {"show_log_origin", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { file.log.show_origin = value.boolean(); }},
    {"module", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_text(value, file.log.module); }},
};

constexpr Field metrics[] = {
    {"metrics_path", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.metrics->path); }},
    {"emit_id", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { file.metrics->emit_id = value.boolean().value_or(false); }},
    {"properties", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) {
         if (!value.json().is_object())
             return value.report_type(JsonType::object);
         file.metrics->properties = value.json().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
     }},
};

constexpr Field serial[] = {
    {"serial_out_path", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, file.serial.path); }},
    {"rate_limiter", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { file.serial.limit = read_bucket(value); }},
};

// Mmds-config

void read_interfaces(const JsonValue& value, ConfigFile& file) {
    file.mmds->interfaces.clear();
    for_each_element(value, [&](const JsonValue& one) { file.mmds->interfaces.push_back(read_id(one)); });
}

void read_version(const JsonValue& value, ConfigFile& file) {
    static constexpr std::string_view names[] = {"V1", "V2"};
    file.mmds->version_2 = value.one_of(names).value_or(0) == 1;
}

void read_address(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (!text)
        return;
    in_addr address{};
    const bool link_local = ::inet_pton(AF_INET, text->c_str(), &address) == 1 && text->starts_with("169.254.");
    if (!link_local)
        return value.report(Errc::config_value, in_quotes(*text) + " is not a link-local IPv4 address",
                            "use one such as 169.254.169.254");
    file.mmds->address = *text;
}

constexpr Field mmds[] = {
    {"version", Need::optional, Null::means_absent, read_version},
    {"network_interfaces", Need::required, Null::refused, read_interfaces},
    {"ipv4_address", Need::optional, Null::means_absent, read_address},
    {"imds_compat", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { file.mmds->imds_compatible = value.boolean().value_or(false); }},
};

// Cpu-config

/// "0x1f" or "0b11"; or a plain number. Digits alone are refused: they may have been meant as hexadecimal.
std::optional<std::uint32_t> read_leaf(const JsonValue& value) {
    if (value.json().is_number())
        if (const auto number = value.number({0, UINT32_MAX}, Errc::config_value))
            return static_cast<std::uint32_t>(*number);
    const auto text = value.text();
    if (!text)
        return std::nullopt;
    const char* first = text->data() + 2;
    const char* last = text->data() + text->size();
    std::uint32_t number{};
    if (text->starts_with("0x") || text->starts_with("0b")) {
        const auto [end, error] = std::from_chars(first, last, number, text->starts_with("0x") ? 16 : 2);
        if (error == std::errc{} && end == last)
            return number;
    }
    value.report(Errc::config_value, in_quotes(*text) + " is not a 32-bit number in hexadecimal or binary digits",
                 "write it as 0x1f or 0b11111");
    return std::nullopt;
}

/// "0b1x0": highest bit first, x leaves a bit alone, missing ones are left alone.
bool read_bitmap(const JsonValue& value, boot::CpuidModifier& out) {
    const auto text = value.text();
    if (!text)
        return false;
    std::string_view digits{*text};
    if (digits.starts_with("0b"))
        digits.remove_prefix(2);
    std::string bits;
    std::ranges::copy_if(digits, std::back_inserter(bits), [](char c) { return c != '_'; });
    if (bits.empty() || bits.size() > 32 || bits.find_first_not_of("01x") != bits.npos) {
        value.report(Errc::config_value, in_quotes(*text) + " is not a bitmap of at most 32 bits",
                     "write 0b and then 0, 1 or x for each bit, the highest first");
        return false;
    }
    for (const char bit : bits) {
        out.mask = out.mask << 1 | (bit == 'x' ? 0U : 1U);
        out.value = out.value << 1 | (bit == '1' ? 1U : 0U);
    }
    return true;
}

void read_cpuid_modifier(const JsonValue& leaf, ConfigFile& file) {
    if (!check_keys(leaf, {"leaf", "subleaf", "flags", "modifiers"}, {}))
        return;
    const auto number = read_leaf(member(leaf, "leaf"));
    const auto subleaf = read_leaf(member(leaf, "subleaf"));
    const auto flags = member(leaf, "flags").number({0, UINT32_MAX}, Errc::config_value);
    for_each_element(member(leaf, "modifiers"), [&](const JsonValue& one) {
        static constexpr std::string_view registers[] = {"eax", "ebx", "ecx", "edx"};
        if (!check_keys(one, {"register", "bitmap"}, {}))
            return;
        boot::CpuidModifier modifier;
        const auto reg = member(one, "register").one_of(registers);
        if (!read_bitmap(member(one, "bitmap"), modifier) || !reg || !number || !subleaf)
            return;
        modifier.leaf = *number;
        modifier.subleaf = *subleaf;
        modifier.flags = static_cast<std::uint32_t>(flags.value_or(0));
        modifier.reg = static_cast<boot::CpuidModifier::Register>(*reg);
        file.config.machine.cpuid.push_back(modifier);
    });
}

template <const char* const& what> void read_empty(const JsonValue& value, ConfigFile& /*file*/) {
    if (!value.json().is_array())
        value.report_type(JsonType::array);
    else if (!value.json().empty())
        value.report(Errc::unsupported, std::string{what} + " are not in this version of inox", "leave the list empty");
}

constexpr const char* msr_modifiers = "MSR modifiers";
constexpr const char* capabilities = "KVM capability modifiers";
constexpr const char* other_cpu = "modifiers for other architectures";

constexpr Field cpu[] = {
    {"kvm_capabilities", Need::optional, Null::means_absent, read_empty<capabilities>},
    {"cpuid_modifiers", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) {
         for_each_element(value, [&](const JsonValue& leaf) { read_cpuid_modifier(leaf, file); });
     }},
    {"msr_modifiers", Need::optional, Null::means_absent, read_empty<msr_modifiers>},
    {"reg_modifiers", Need::optional, Null::means_absent, read_empty<other_cpu>},
    {"vcpu_features", Need::optional, Null::means_absent, read_empty<other_cpu>},
};

} // namespace

std::span<const Field> logger_fields() { return logger; }
std::span<const Field> metrics_fields() { return metrics; }
std::span<const Field> serial_fields() { return serial; }
std::span<const Field> mmds_fields() { return mmds; }
std::span<const Field> cpu_fields() { return cpu; }

Result<GdbConfig> parse_gdb(const std::string& text) {
    constexpr auto rule = "write a port such as 1234, or unix:PATH; ,wait=off behind it lets the guest run at once";
    GdbConfig config;
    std::string_view rest = text;
    if (const auto wait = rest.rfind(",wait="); wait != rest.npos)
        if (const auto on = parse_switch(rest.substr(wait + std::string_view{",wait="}.size()))) {
            config.wait = *on;
            rest = rest.substr(0, wait);
        }
    if (constexpr std::string_view scheme = "unix:"; rest.starts_with(scheme)) {
        config.socket = rest.substr(scheme.size());
        return config.socket.empty() ? fail(Errc::config_value, "the socket's path is empty", rule)
                                     : Result<GdbConfig>{std::move(config)};
    }
    const auto port = parse_number(rest);
    if (!port || *port == 0 || *port > UINT16_MAX)
        return fail(Errc::config_value, in_quotes(text) + " is neither a port from 1 to 65535 nor unix:PATH", rule);
    config.port = static_cast<std::uint16_t>(*port);
    return config;
}

} // namespace inox
