// SPDX-License-Identifier: Apache-2.0
// What serde says about a body that does not fit.
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <span>

#include "api/firecracker/place.hpp"
#include "api/firecracker/words.hpp"

namespace inox::api::firecracker {
namespace {

using Json = nlohmann::json;

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

/// As Rust prints it: the shortest digits that give this number, never with an exponent, always with a point.
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

/// Words for a value that does not fit, such as: string "2".
std::string value_words(const Json& value) {
    switch (value.type()) {
    case Json::value_t::null:
        return "null";
    case Json::value_t::object:
        return "map";
    case Json::value_t::array:
        return "sequence";
    case Json::value_t::string:
        return "string " + value.dump(-1, ' ', false, Json::error_handler_t::replace);
    case Json::value_t::boolean:
        return "boolean `" + value.dump() + "`";
    case Json::value_t::number_float:
        return "floating point `" + rust_number(value.get<double>()) + "`";
    default:
        return "integer `" + value.dump() + "`";
    }
}

/// Firecracker's integer types.
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

/// Whether serde accepts the number; then a rule about its value refuses it, not its type.
bool fits_type(const Json& value, std::string_view field) {
    return value.is_number_unsigned() && value.get<std::uint64_t>() <= integer_of(field).most;
}

std::string_view type_words(JsonType type, std::string_view field) {
    if (type == JsonType::number)
        return integer_of(field).type;
    static constexpr std::string_view words[] = {"a boolean", "", "a string", "a sequence", "an object"};
    return words[static_cast<std::size_t>(type)];
}

struct Sentence {
    const Error& problem;
    const Body& body;

    [[nodiscard]] std::string place(Part part = Part::value) const {
        const auto offset = body.text.empty() ? std::string_view::npos : last_byte(body.text, problem.where, part);
        return offset == std::string_view::npos ? std::string{} : " at " + line_and_column(body.text, offset);
    }
    [[nodiscard]] std::string field() const { return last_token(problem.where); }
    [[nodiscard]] const Json& value() const {
        const Json::json_pointer at{problem.where};
        return body.root.contains(at) ? body.root.at(at) : body.root;
    }

    std::string operator()(const UnknownKey& key) const {
        return "unknown field `" + field() + "`, " + expected_names(key.known) + place(Part::key);
    }
    std::string operator()(const MissingKey& key) const {
        return "missing field `" + std::string{key.key} + "`" + place();
    }
    std::string operator()(const DuplicateKey&) const { return "duplicate field `" + field() + "`"; }
    std::string operator()(const WrongType& type) const { return unfit("invalid type: ", type.expected); }
    std::string operator()(const NotOneOf& word) const {
        return "unknown variant `" + word.given + "`, " + expected_names(word.names) + place();
    }
    std::string operator()(const OutOfRange& number) const {
        if (fits_type(value(), field()))
            return "invalid value: " + number.given + " is not a whole number from " + std::to_string(number.first) +
                   " to " + std::to_string(number.last) + place();
        // For serde, whole numbers from 2^64 on and those with an exponent are floating point, too.
        return unfit(value().is_number_float() ? "invalid type: " : "invalid value: ", JsonType::number);
    }
    std::string operator()(const NoHostAddress& host) const {
        return "Invalid device passthrough SBDF: " + host.given + place();
    }
    /// Rules that serde does not have are worded by inox.
    std::string operator()(const auto& /*other*/) const {
        if (problem.code == Errc::config_syntax)
            return problem.what;
        return (problem.code == Errc::config_type ? "" : "invalid value: ") + problem.what + place();
    }

private:
    [[nodiscard]] std::string unfit(const char* why, JsonType expected) const {
        return why + value_words(value()) + ", expected " + std::string{type_words(expected, field())} + place();
    }
};

} // namespace

Error in_words(Error problem, const Body& body) {
    problem.what = problem.code == Errc::unsupported
                       ? "The requested operation is not supported: " + problem.what
                       : "An error occurred when deserializing the json body of a request: " +
                             std::visit(Sentence{problem, body}, problem.detail) + ".";
    return problem;
}

} // namespace inox::api::firecracker
