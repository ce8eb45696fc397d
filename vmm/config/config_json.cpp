// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_json.hpp"

#include <cmath>

#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

using nlohmann::json;

/// Each costs a walk and has the pointer of its container, which may be as long as the text.
constexpr std::size_t most_duplicates = 100;

/// Builds the tree; stops at the first syntax error, goes on after a duplicate key unless there are many.
class Builder final : public nlohmann::json_sax<json> {
public:
    Builder(JsonText& out, Quote quote) : out_{out}, quote_{quote} {}

    bool null() override { return put(nullptr); }
    bool boolean(bool value) override { return put(value); }
    bool number_integer(number_integer_t value) override { return put(value); }
    bool number_unsigned(number_unsigned_t value) override { return put(value); }
    bool number_float(number_float_t value, const string_t& /*text*/) override { return put(value); }
    bool string(string_t& value) override { return put(std::move(value)); }
    bool binary(binary_t& /*value*/) override { return false; }
    bool start_object(std::size_t /*elements*/) override { return open(json::object()); }
    bool start_array(std::size_t /*elements*/) override { return open(json::array()); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }

    bool key(string_t& name) override {
        if (open_.back()->contains(name))
            problem("the key " + in_quotes(name) + " appears twice", "keep one of them",
                    json_pointer(pointer_to(open_.back()), name), DuplicateKey{});
        key_ = std::move(name);
        return out_.problems.size() < most_duplicates;
    }

    bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                     const nlohmann::detail::exception& error) override {
        // nlohmann's text starts with "[json.exception.parse_error.101] ".
        const std::string_view text = error.what();
        const auto start = text.find("] ");
        auto what = printable(start == text.npos ? text : text.substr(start + 2), 240);
        if (quote_ == Quote::no)
            what.resize(std::min(what.find("; last read"), what.size()));
        problem("not valid JSON: " + what, "compare with an example in configs/");
        return false;
    }

private:
    bool put(json value) {
        place(std::move(value));
        return true;
    }

    json* place(json value) {
        if (open_.empty()) {
            out_.root = std::move(value);
            return &out_.root;
        }
        json& parent = *open_.back();
        if (parent.is_array())
            return &parent.emplace_back(std::move(value));
        return &(parent[key_] = std::move(value));
    }

    bool open(json container) {
        if (open_.size() == json_max_depth) {
            problem(format("nested deeper than %zu levels", json_max_depth), "no configuration needs that");
            return false;
        }
        open_.push_back(place(std::move(container)));
        return true;
    }

    bool close() {
        open_.pop_back();
        return true;
    }

    /// Walks down the open containers: only errors need it.
    std::string pointer_to(const json* target) const {
        std::string pointer;
        for (std::size_t i = 0; i + 1 < open_.size() && open_[i] != target; ++i) {
            const json& parent = *open_[i];
            if (parent.is_array()) {
                pointer = json_pointer(pointer, std::to_string(parent.size() - 1));
                continue;
            }
            for (const auto& [name, child] : parent.items())
                if (&child == open_[i + 1])
                    pointer = json_pointer(pointer, name);
        }
        return pointer;
    }

    void problem(std::string what, std::string hint, std::string where = {}, ErrorDetail detail = {}) {
        out_.problems.push_back(
            error_at(std::move(where), Errc::config_syntax, std::move(what), std::move(hint), std::move(detail)));
    }

    JsonText& out_;
    Quote quote_;
    std::vector<json*> open_{}; // stable: a container does not grow while a child of it is open
    std::string key_{};
};

} // namespace

JsonText read_json(std::string_view text, std::size_t max_size, Quote quote) {
    JsonText out;
    if (text.size() > max_size) {
        out.problems.push_back(
            make_error(Errc::config_syntax, "larger than " + size_text(max_size), "is this the right file?"));
        return out;
    }
    if (text.contains('\0')) { // the parser would take it for the end
        out.problems.push_back(make_error(Errc::config_syntax, "not valid JSON: a NUL byte", "remove it"));
        return out;
    }
    if (text.starts_with("\xef\xbb\xbf")) {
        out.problems.push_back(
            make_error(Errc::config_syntax, "not valid JSON: a byte order mark", "save it as UTF-8 without one"));
        return out;
    }
    Builder builder{out, quote};
    if (!json::sax_parse(text, &builder))
        out.root = nullptr;
    return out;
}

std::string json_pointer(std::string_view parent, std::string_view key) {
    std::string out{parent};
    out += '/';
    for (const char c : printable(key)) {
        if (c == '~')
            out += "~0";
        else if (c == '/')
            out += "~1";
        else
            out += c;
    }
    return out;
}

std::string list_text(std::span<const std::string_view> names) {
    std::string out;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (i != 0)
            out += i + 1 == names.size() ? " or " : ", ";
        out += names[i];
    }
    return out;
}

Error not_one_of(std::string_view given, const Names& names, std::string where) {
    return error_at(std::move(where), Errc::config_value, in_quotes(given) + " is not one of " + list_text(names),
                    suggestion(given, names, "choose one of them"), NotOneOf{printable(given), names});
}

void JsonValue::report(Errc code, std::string what, std::string hint, ErrorDetail detail) const {
    problems_.push_back({code, std::move(what), std::move(hint), pointer_, 0, std::move(detail)});
}

void JsonValue::report_type(JsonType expected, std::string_view words) const {
    static constexpr std::string_view names[] = {"true or false", "a whole number", "a string", "an array",
                                                 "an object"};
    report(Errc::config_type,
           "expected " + std::string{words.empty() ? names[static_cast<std::size_t>(expected)] : words} + ", got " +
               value_text(),
           "docs/config.md shows this key", WrongType{expected});
}

void JsonValue::report_unknown(const std::string& key, Names known) const {
    auto hint = suggestion(key, known, "the keys here are " + list_text(known));
    report(Errc::config_unknown_key, "unknown key " + in_quotes(key), std::move(hint), UnknownKey{std::move(known)});
}

void JsonValue::report_missing(std::string_view key) const {
    report(Errc::config_missing_key, "the key " + in_quotes(key) + " is missing", "add it", MissingKey{key});
}

/// The value as it was written, or its kind where that would be long. A key without a value is true in `words`.
std::string JsonValue::value_text() const {
    if (json_.is_object())
        return "an object";
    if (json_.is_array())
        return "an array";
    if (form_ == Form::words && json_.is_boolean())
        return "no value";
    if (json_.is_string())
        return in_quotes(json_.get_ref<const std::string&>());
    if (!json_.is_number_float())
        return json_.dump();
    const auto value = json_.get<double>();
    // What does not fit 64 bits; the parser made a floating-point number of it.
    constexpr double readable = 1e24;
    return std::trunc(value) == value && std::abs(value) < readable ? format("%.0f", value) : json_.dump();
}

JsonValue JsonValue::member(const std::string& key, const nlohmann::json& json) const {
    return {{json, json_pointer(pointer_, key), problems_, form_}, folder_};
}

std::optional<bool> JsonValue::boolean() const {
    if (json_.is_boolean())
        return json_.get<bool>();
    if (form_ == Form::words && json_.is_string())
        if (const auto on = parse_switch(json_.get_ref<const std::string&>()))
            return on;
    report_type(JsonType::boolean, form_ == Form::words ? "on or off" : "");
    return std::nullopt;
}

std::optional<std::string> JsonValue::text() const {
    if (!json_.is_string()) {
        report_type(JsonType::text);
        return std::nullopt;
    }
    const auto& text = json_.get_ref<const std::string&>();
    if (text.contains('\0')) {
        report(Errc::config_value, "the string holds a NUL character", "remove \\u0000");
        return std::nullopt;
    }
    return text;
}

std::optional<std::uint64_t> JsonValue::number(Bounds bounds, Errc range_code, Bounds told) const {
    const std::string range = "a whole number from " + std::to_string(told.least) + " to " + std::to_string(told.most);
    const auto outside = [&](const std::string& value, const char* hint) {
        report(range_code, value + " is not " + range, hint, OutOfRange{value, told.least, told.most});
        return std::nullopt;
    };
    std::optional<std::uint64_t> value;
    if (form_ == Form::words && json_.is_string()) {
        const auto& word = json_.get_ref<const std::string&>();
        value = parse_number(word);
        if (!value)
            return outside(in_quotes(word), "docs/config.md has the limits of this key");
    } else if (json_.is_number_unsigned()) {
        value = json_.get<std::uint64_t>();
    } else if (json_.is_number_integer()) {
        return outside(json_.dump(), "docs/config.md has the limits of this key");
    } else if (json_.is_number_float() && std::trunc(json_.get<double>()) == json_.get<double>()) {
        // Written with an exponent or a point, or beyond 64 bits.
        return outside(value_text(), "write it as digits only, within these limits");
    } else {
        report_type(JsonType::number, range);
        return std::nullopt;
    }
    if (*value < bounds.least || *value > bounds.most)
        return outside(std::to_string(*value), "docs/config.md has the limits of this key");
    return value;
}

std::optional<std::size_t> JsonValue::one_of(std::span<const std::string_view> names) const {
    const auto value = text();
    if (!value)
        return std::nullopt;
    const auto found = std::ranges::find(names, std::string_view{*value});
    if (found != names.end())
        return static_cast<std::size_t>(found - names.begin());
    problems_.push_back(not_one_of(*value, {names.begin(), names.end()}, pointer_));
    return std::nullopt;
}

JsonText read_key_values(std::string_view text) {
    JsonText out;
    out.root = nlohmann::json::object();
    while (!text.empty()) {
        const auto comma = std::min(text.find(','), text.size());
        const std::string word{text.substr(0, comma)};
        text.remove_prefix(std::min(comma + 1, text.size()));
        const auto equals = std::min(word.find('='), word.size());
        const std::string key = word.substr(0, equals);
        if (out.root.contains(key))
            out.problems.push_back(
                make_error(Errc::config_syntax, in_quotes(key) + " is given twice", "give it once", DuplicateKey{}));
        out.root[key] = equals == word.size() ? nlohmann::json(true) : nlohmann::json(word.substr(equals + 1));
    }
    return out;
}

} // namespace inox
