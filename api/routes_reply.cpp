// SPDX-License-Identifier: Apache-2.0
#include "api/routes_reply.hpp"

#include <algorithm>

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

std::string fault_message(const Response& refusal) {
    const auto json = nlohmann::json::parse(refusal.body, nullptr, false);
    const auto text = json.is_object() ? json.value("fault_message", refusal.body) : refusal.body;
    static constexpr std::size_t longest = 1500;
    return printable(text, longest);
}

Response outcome(const Result<void>& result, std::string_view prefix) {
    return result ? done() : refusal(firecracker::in_words(result.error()), prefix);
}

// Bodies

Response body_refusal(const Error& problem, const firecracker::Body& body) {
    return refusal(firecracker::in_words(problem, body));
}

void ObjectBody::refuse(Error error, std::string_view text) {
    refusal = body_refusal(error, {root, text});
    problem = std::move(error);
}

bool SectionBody::has(std::string_view key) const { return std::ranges::find(keys, key) != keys.end(); }

SectionBody read_section(std::string_view section, JsonText json, std::string_view text,
                         std::optional<Dialect> required) {
    SectionBody body;
    if (json.problems.empty()) {
        auto parsed = parse_section(section, json.root, {}, required);
        body.file = std::move(parsed.file);
        body.keys = std::move(parsed.keys);
        json.problems = std::move(parsed.problems);
    }
    body.root = std::move(json.root);
    if (!json.problems.empty())
        body.refuse(std::move(json.problems.front()), text);
    return body;
}

SectionBody read_section(std::string_view section, std::string_view text, std::optional<Dialect> required) {
    return read_section(section, read_json(text), text, required);
}

SectionBody read_change(std::string_view section, std::string_view text, std::initializer_list<std::string_view> keys) {
    auto json = read_json(text);
    const JsonValue whole{json.root, "", json.problems};
    if (json.root.is_object())
        for (const auto& [key, value] : json.root.items())
            if (std::ranges::find(keys, key) == keys.end())
                whole.member(key, value).report_unknown(key, keys);
    auto body = read_section(section, std::move(json), text, std::nullopt);
    if (body.refusal || body.has(*keys.begin()))
        return body;
    std::vector<Error> problems;
    JsonValue{body.root, "", problems}.report_missing(*keys.begin());
    body.refuse(std::move(problems.front()), text);
    return body;
}

ObjectBody read_object(std::string_view text, std::initializer_list<FieldSpec> fields, Unknown unknown) {
    Names known;
    for (const auto& field : fields)
        known.push_back(field.name);
    auto json = read_json(text);
    auto& problems = json.problems;
    const JsonValue whole{json.root, "", problems};
    if (problems.empty() && !json.root.is_object())
        whole.report_type(JsonType::object);
    if (problems.empty())
        for (const auto& [key, value] : json.root.items()) {
            const auto field = std::ranges::find(fields, key, &FieldSpec::name);
            const auto one = whole.member(key, value);
            if (field == fields.end() && unknown == Unknown::ignored)
                continue;
            if (field == fields.end())
                one.report_unknown(key, known);
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
                whole.report_missing(field.name);
    ObjectBody body{std::move(json.root), {}, {}};
    if (!problems.empty())
        body.refuse(std::move(problems.front()), text);
    return body;
}

} // namespace inox::api
