// SPDX-License-Identifier: Apache-2.0
#include "tests/support/contract.hpp"

namespace inox::tests {

std::set<std::string> Contract::operations() const {
    std::set<std::string> out;
    for (const auto& [path, item] : root_.at("paths").items())
        for (const auto& [method, unused] : item.items())
            if (method != "parameters")
                out.insert(upper(method) + " " + path);
    return out;
}

std::string Contract::complaint(const std::string& method, const std::string& path, unsigned status,
                                const std::string& type, const std::string& body) const {
    const auto& item = root_.at("paths").at(path);
    const auto& responses = item.at(lower(method)).at("responses");
    const auto name = std::to_string(status);
    if (!responses.contains(name) && status < 400)
        return "status " + name + " is not in the contract";
    const auto& response = resolve(responses.contains(name) ? responses.at(name) : responses.at("default"));
    if (!response.contains("content"))
        return body.empty() ? "" : "a body where the contract has none";
    for (const auto& [media, content] : response.at("content").items()) {
        if (!type.starts_with(media))
            continue;
        if (media != "application/json")
            return "";
        const auto json = Json::parse(body, nullptr, false);
        return json.is_discarded() ? "no JSON" : check(json, content.at("schema"), "");
    }
    return "the type '" + type + "' is not in the contract";
}

std::string Contract::check(const Json& value, const Json& any_schema, const std::string& where) const {
    const auto& schema = resolve(any_schema);
    if (schema.contains("anyOf")) {
        std::string all;
        for (const auto& one : schema.at("anyOf")) {
            const auto problem = check(value, one, where);
            if (problem.empty())
                return "";
            all += problem + "; ";
        }
        return all;
    }
    if (schema.contains("const") && schema.at("const") != value)
        return where + " is not " + schema.at("const").dump();
    if (schema.contains("enum") &&
        std::find(schema.at("enum").begin(), schema.at("enum").end(), value) == schema.at("enum").end())
        return where + " is " + value.dump() + ", not one of " + schema.at("enum").dump();
    if (schema.contains("type") && !has_type(value, schema.at("type")))
        return where + " is " + value.dump() + ", not of type " + schema.at("type").dump();
    if (value.is_string())
        return check_text(value.get<std::string>(), schema, where);
    if (value.is_number())
        return check_number(value.get<double>(), schema, where);
    if (value.is_array())
        return check_array(value, schema, where);
    return value.is_object() ? check_object(value, schema, where) : "";
}

std::string Contract::upper(std::string text) {
    for (auto& c : text)
        c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return text;
}

std::string Contract::lower(std::string text) {
    for (auto& c : text)
        c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

const Contract::Json& Contract::resolve(const Json& schema) const {
    if (!schema.contains("$ref"))
        return schema;
    return root_.at(Json::json_pointer{schema.at("$ref").get<std::string>().substr(1)});
}

bool Contract::has_type(const Json& value, const Json& type) {
    if (type.is_array())
        return std::any_of(type.begin(), type.end(), [&](const Json& one) { return has_type(value, one); });
    const auto name = type.get<std::string>();
    return (name == "object" && value.is_object()) || (name == "array" && value.is_array()) ||
           (name == "string" && value.is_string()) || (name == "boolean" && value.is_boolean()) ||
           (name == "integer" && value.is_number_integer()) || (name == "null" && value.is_null());
}

std::string Contract::check_text(const std::string& text, const Json& schema, const std::string& where) {
    if (text.size() < schema.value("minLength", 0U))
        return where + " is too short";
    if (schema.contains("pattern") && !std::regex_search(text, std::regex{schema.at("pattern").get<std::string>()}))
        return where + " '" + text + "' does not match " + schema.at("pattern").dump();
    return "";
}

std::string Contract::check_number(double number, const Json& schema, const std::string& where) {
    if (schema.contains("minimum") && number < schema.at("minimum").get<double>())
        return where + " is too small";
    return schema.contains("maximum") && number > schema.at("maximum").get<double>() ? where + " is too large" : "";
}

std::string Contract::check_array(const Json& value, const Json& schema, const std::string& where) const {
    if (schema.contains("maxItems") && value.size() > schema.at("maxItems").get<std::size_t>())
        return where + " is too long";
    if (schema.contains("items"))
        for (std::size_t i = 0; i < value.size(); ++i)
            if (auto problem = check(value[i], schema.at("items"), where + "/" + std::to_string(i)); !problem.empty())
                return problem;
    return "";
}

std::string Contract::check_object(const Json& value, const Json& schema, const std::string& where) const {
    for (const auto& name : schema.value("required", Json::array()))
        if (!value.contains(name.get<std::string>()))
            return where + " lacks " + name.dump();
    const auto properties = schema.value("properties", Json::object());
    const auto others = schema.value("additionalProperties", Json(true));
    for (const auto& [name, member] : value.items()) {
        const auto at = where + "/" + name;
        if (!properties.contains(name) && others == false)
            return at + " is not in the contract";
        const auto& of = properties.contains(name) ? properties.at(name) : others;
        if (of.is_object())
            if (auto problem = check(member, of, at); !problem.empty())
                return problem;
    }
    return "";
}

} // namespace inox::tests
