// SPDX-License-Identifier: Apache-2.0
// Holds answers of the API to its contract: as much of JSON Schema as api/openapi.yaml uses.
#pragma once

#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

#include "api/openapi.hpp"

namespace inox::tests {

class Contract {
public:
    using Json = nlohmann::json;

    Contract() : root_(Json::parse(api::openapi_json())) {}

    [[nodiscard]] const Json& root() const { return root_; }

    /// "GET /drives/{id}", every one.
    [[nodiscard]] std::set<std::string> operations() const;

    /// Empty when the answer is one of those the contract names for this operation.
    [[nodiscard]] std::string complaint(const std::string& method, const std::string& path, unsigned status,
                                        const std::string& type, const std::string& body) const;

    /// Empty when `value` fits the schema.
    [[nodiscard]] std::string check(const Json& value, const Json& any_schema, const std::string& where) const;

private:
    static std::string upper(std::string text);
    static std::string lower(std::string text);

    [[nodiscard]] const Json& resolve(const Json& schema) const;

    static bool has_type(const Json& value, const Json& type);

    static std::string check_text(const std::string& text, const Json& schema, const std::string& where);

    static std::string check_number(double number, const Json& schema, const std::string& where);

    [[nodiscard]] std::string check_array(const Json& value, const Json& schema, const std::string& where) const;

    [[nodiscard]] std::string check_object(const Json& value, const Json& schema, const std::string& where) const;

    Json root_;
};

} // namespace inox::tests
