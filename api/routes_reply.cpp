// SPDX-License-Identifier: Apache-2.0
#include "api/routes_reply.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "api/json_place.hpp"
#include "vmm/config/config_json.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::api {

namespace {

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

} // namespace

Response ok(const Json& body) { return {200, dump(body), "application/json", false}; }

Response refusal(const Error& error, std::string_view prefix, unsigned status) {
    Json body{{"fault_message", std::string{prefix} + error.message()}, {"code", error_name(error.code)}};
    if (!error.hint.empty())
        body["hint"] = error.hint;
    return {status, dump(body), "application/json", false};
}

Response refusal(Errc code, std::string text, std::string hint) {
    return refusal(Error{code, std::move(text), std::move(hint), {}, 0});
}

Error device_room_problem(Error error) {
    const auto with_pci = error.what.find("a machine with PCI has room for ") != error.what.npos;
    if (!with_pci && error.what.find("a machine without PCI has room for ") == error.what.npos)
        return error;
    error.hint = error.what + ": " + error.hint;
    error.what = with_pci ? "Could not find an available device slot on the PCI bus."
                          : "Could not allocate GSI: The requested resource is not available.";
    return error;
}

std::string fault_message(const Response& refusal) {
    const auto json = nlohmann::json::parse(refusal.body, nullptr, false);
    const auto text = json.is_object() ? json.value("fault_message", refusal.body) : refusal.body;
    static constexpr std::size_t longest = 1500;
    return printable(text, longest);
}

Response outcome(const Result<void>& result, std::string_view prefix) {
    return result ? done() : refusal(result.error(), prefix);
}

// Serde's words

namespace {

std::string expected_names(std::span<const std::string_view> known) {
    if (known.empty())
        return "there are no fields";
    if (known.size() == 1)
        return "expected `" + std::string{known[0]} + "`";
    std::string out = known.size() == 2 ? "expected " : "expected one of ";
    for (std::size_t i = 0; i < known.size(); ++i)
        out += (i == 0 ? "`" : known.size() == 2 ? " or `" : ", `") + std::string{known[i]} + "`";
    return out;
}

/// The last token of a JSON pointer.
std::string last_token(std::string_view pointer) {
    const auto slash = pointer.rfind('/');
    return std::string{slash == pointer.npos ? pointer : pointer.substr(slash + 1)};
}

/// What stands between the first pair of quotes.
std::string quoted(const std::string& text) {
    const auto first = text.find('\'');
    const auto last = text.find('\'', first + 1);
    return first == text.npos || last == text.npos ? text : text.substr(first + 1, last - first - 1);
}

/// As Rust prints it: the shortest digits that mean this number, never with an exponent, always with a point.
std::string rust_number(double value) {
    char buffer[32];
    const auto end = std::to_chars(std::begin(buffer), std::end(buffer), value, std::chars_format::scientific).ptr;
    const std::string_view text{buffer, static_cast<std::size_t>(end - buffer)};
    const auto e = text.find('e');
    const bool negative = text.starts_with('-');
    std::string digits{text.substr(negative ? 1 : 0, e - (negative ? 1 : 0))};
    std::erase(digits, '.');
    const int point = 1 + std::atoi(std::string{text.substr(e + 1)}.c_str()); // digits before the point
    if (point <= 0)
        digits.insert(0, static_cast<std::size_t>(1 - point), '0');
    const auto whole = static_cast<std::size_t>(std::max(point, 1));
    if (digits.size() < whole + 1)
        digits.resize(whole + 1, '0');
    return (negative ? "-" : "") + digits.insert(whole, ".");
}

/// "string \"2\"": serde's words for a value that does not fit.
std::string serde_value(std::string_view text, const std::string& pointer) {
    const auto root = nlohmann::json::parse(text, nullptr, false);
    const nlohmann::json::json_pointer place{pointer};
    if (!root.contains(place))
        return "a value";
    const auto& value = root.at(place);
    switch (value.type()) {
    case nlohmann::json::value_t::null:
        return "null";
    case nlohmann::json::value_t::object:
        return "map";
    case nlohmann::json::value_t::array:
        return "sequence";
    case nlohmann::json::value_t::string:
        return "string " + dump(value);
    case nlohmann::json::value_t::boolean:
        return "boolean `" + value.dump() + "`";
    case nlohmann::json::value_t::number_float:
        return "floating point `" + rust_number(value.get<double>()) + "`";
    default:
        return "integer `" + value.dump() + "`";
    }
}

/// Firecracker's types.
struct Integer {
    std::string_view field;
    std::string_view type;
    std::uint64_t most;
};
Integer integer_of(std::string_view field) {
    static constexpr Integer integers[] = {
        {"vcpu_count", "u8", UINT8_MAX},   {"mem_size_mib", "usize", UINT64_MAX},
        {"mtu", "u16", UINT16_MAX},        {"stats_polling_interval_s", "u16", UINT16_MAX},
        {"size", "u64", UINT64_MAX},       {"one_time_burst", "u64", UINT64_MAX},
        {"refill_time", "u64", UINT64_MAX}};
    const auto* found = std::ranges::find(integers, field, &Integer::field);
    return found == std::end(integers) ? Integer{field, "u32", UINT32_MAX} : *found;
}

/// Whether serde takes the number: then what refuses it is a rule of the value, not of its type.
bool fits_type(std::string_view text, const std::string& pointer) {
    const auto root = nlohmann::json::parse(text, nullptr, false);
    const nlohmann::json::json_pointer place{pointer};
    return root.contains(place) && root.at(place).is_number_unsigned() &&
           root.at(place).get<std::uint64_t>() <= integer_of(last_token(pointer)).most;
}

/// What serde expects where our reader expects `expected`.
std::string serde_expected(std::string_view expected, std::string_view field) {
    if (expected == "true or false")
        return "a boolean";
    if (expected == "an array")
        return "a sequence";
    return std::string{expected.starts_with("a whole number") ? integer_of(field).type : expected};
}

/// The names in "A, B or C".
std::vector<std::string_view> listed_names(std::string_view rest) {
    std::vector<std::string_view> names;
    while (!rest.empty()) {
        const auto comma = std::min(rest.find(", "), rest.size());
        const auto last = std::min(rest.find(" or "), rest.size());
        const auto end = std::min(comma, last);
        names.push_back(rest.substr(0, end));
        rest.remove_prefix(std::min(end + (comma < last ? 2 : 4), rest.size()));
    }
    return names;
}

/// "unknown variant `x`, expected `A` or `B`" of "'x' is not one of A or B".
std::string serde_variant(const std::string& problem, std::size_t phrase) {
    static constexpr std::string_view words = " is not one of ";
    const auto names = listed_names(std::string_view{problem}.substr(phrase + words.size()));
    return "unknown variant `" + quoted(problem.substr(0, phrase)) + "`, " + expected_names(names);
}

std::string serde_text(const Error& problem, std::string_view text, std::span<const std::string_view> known,
                       Text from) {
    const auto place = [&](Part part, std::string_view pointer) {
        const auto offset = from == Text::sent ? last_byte(text, pointer, part) : std::string_view::npos;
        return offset == std::string_view::npos ? std::string{} : " at " + line_and_column(text, offset);
    };
    switch (problem.code) {
    case Errc::config_unknown_key: {
        static constexpr std::string_view words = "the keys here are ";
        const bool nested = std::ranges::count(problem.where, '/') > 1 && problem.hint.starts_with(words);
        const auto names = nested ? listed_names(std::string_view{problem.hint}.substr(words.size()))
                                  : std::vector<std::string_view>{known.begin(), known.end()};
        return "unknown field `" + last_token(problem.where) + "`, " + expected_names(names) +
               place(Part::key, problem.where);
    }
    case Errc::config_missing_key:
        return "missing field `" + quoted(problem.what) + "`" + place(Part::value, problem.where);
    case Errc::config_type: {
        const auto got = problem.what.find(", got ");
        if (got == problem.what.npos)
            return problem.what + place(Part::value, problem.where);
        static constexpr std::string_view expected = "expected ";
        return "invalid type: " + serde_value(text, problem.where) + ", expected " +
               serde_expected(std::string_view{problem.what}.substr(0, got).substr(expected.size()),
                              last_token(problem.where)) +
               place(Part::value, problem.where);
    }
    case Errc::config_syntax:
        if (!problem.where.empty())
            return "duplicate field `" + last_token(problem.where) + "`";
        return problem.what;
    default:
        if (const auto phrase = problem.what.find(" is not one of "); phrase != problem.what.npos)
            return serde_variant(problem.what, phrase) + place(Part::value, problem.where);
        if (problem.what.find(" is not a whole number from ") != problem.what.npos && !fits_type(text, problem.where)) {
            // Also whole numbers from 2^64 on, and those with an exponent, are floating point for serde.
            const auto value = serde_value(text, problem.where);
            return (value.starts_with("floating") ? "invalid type: " : "invalid value: ") + value + ", expected " +
                   serde_expected("a whole number", last_token(problem.where)) + place(Part::value, problem.where);
        }
        return (problem.what.starts_with("Invalid ") ? "" : "invalid value: ") + problem.what +
               place(Part::value, problem.where);
    }
}

} // namespace

Response body_refusal(const Error& problem, std::string_view text, std::span<const std::string_view> known, Text from) {
    Error out = problem;
    if (problem.code == Errc::unsupported)
        out.what = "The requested operation is not supported: " + problem.what;
    else
        out.what = "An error occurred when deserializing the json body of a request: " +
                   serde_text(problem, text, known, from) + ".";
    return refusal(out);
}

// Bodies

namespace {

std::vector<std::string_view> field_names(std::string_view section) {
    std::vector<std::string_view> names;
    for (const auto& one : config_sections())
        if (one.name == section)
            for (const auto& field : one.fields)
                names.push_back(field.name);
    return names;
}

} // namespace

bool SectionBody::has(std::string_view key) const { return std::ranges::find(keys, key) != keys.end(); }

SectionBody read_section(std::string_view section, std::string_view text, ConfigFile seed, bool partial, Text from) {
    auto parsed = parse_section(section, text, std::move(seed), partial);
    SectionBody body{std::move(parsed.file), std::move(parsed.keys), std::nullopt};
    if (!parsed.problems.empty())
        body.refusal = body_refusal(parsed.problems.front(), text, field_names(section), from);
    return body;
}

SectionBody read_change(std::string_view section, std::string_view text, std::initializer_list<std::string_view> keys) {
    const std::vector<std::string_view> known{keys};
    const auto json = read_json(text);
    SectionBody body;
    const auto refuse = [&](Errc code, std::string what, std::string where) {
        const auto hint = "the fields here are " + list_text(known);
        body.refusal = body_refusal({code, std::move(what), hint, std::move(where), 0}, text, known);
    };
    if (json.problems.empty() && json.root.is_object())
        for (const auto& [key, unused] : json.root.items())
            if (std::ranges::find(known, key) == known.end())
                return refuse(Errc::config_unknown_key, "unknown key", json_pointer("", key)), body;
    body = read_section(section, text, {}, true);
    if (body.refusal)
        return body;
    if (!body.has(known.front()))
        refuse(Errc::config_missing_key, "the key '" + std::string{known.front()} + "' is missing", "");
    return body;
}

ObjectBody read_object(std::string_view text, std::initializer_list<FieldSpec> fields, Unknown unknown) {
    std::vector<std::string_view> known;
    for (const auto& field : fields)
        known.push_back(field.name);
    auto json = read_json(text);
    ObjectBody body;
    const auto refuse = [&](const Error& error) { body.refusal = body_refusal(error, text, known); };
    auto problems = std::move(json.problems);
    if (problems.empty() && !json.root.is_object())
        JsonValue{json.root, "", problems}.report_type("an object");
    if (problems.empty())
        for (const auto& [key, value] : json.root.items()) {
            const auto field = std::ranges::find(fields, key, &FieldSpec::name);
            const JsonValue one{value, json_pointer("", key), problems};
            if (field == fields.end() && unknown == Unknown::ignored)
                continue;
            if (field == fields.end())
                one.report(Errc::config_unknown_key, "unknown key", "the fields here are " + list_text(known));
            else if (value.is_null() && !field->required)
                continue;
            else if (field->type == FieldSpec::Type::text)
                static_cast<void>(one.text());
            else if (field->type == FieldSpec::Type::number)
                static_cast<void>(one.number({0, field->most}, Errc::config_value));
            else
                static_cast<void>(one.boolean());
        }
    if (problems.empty())
        for (const auto& field : fields)
            if (field.required && !json.root.contains(std::string{field.name}))
                problems.push_back({Errc::config_missing_key, "the key '" + std::string{field.name} + "' is missing",
                                    "add it", "", 0});
    if (!problems.empty())
        refuse(problems.front());
    body.root = std::move(json.root);
    return body;
}

} // namespace inox::api
