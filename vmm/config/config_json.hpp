// SPDX-License-Identifier: Apache-2.0
// Strict JSON: what nlohmann accepts, without duplicate keys, bounded in size and depth. No exception leaves it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox {

inline constexpr std::size_t json_max_size = 1024 * 1024;
inline constexpr std::size_t json_max_depth = 32;

struct JsonText {
    nlohmann::json root{};         ///< null when the text was not read to its end; of a duplicate key the last value
    std::vector<Error> problems{}; ///< config_syntax; a duplicate key has its pointer in `where`; a hundred at most
};
/// Whether a syntax error quotes the text, which may be secret.
enum class Quote : bool { no, yes };
/// `max_size` in bytes.
JsonText read_json(std::string_view text, std::size_t max_size = json_max_size, Quote quote = Quote::yes);

/// "path=disk.img,readonly=on" as an object of strings, to be read as words; a word without '=' is a switch that is on.
/// Keys given twice are reported.
JsonText read_key_values(std::string_view text);

/// `parent`/`key`, escaped as RFC 6901 asks, safe to print.
std::string json_pointer(std::string_view parent, std::string_view key);

/// One value on its way into the configuration: typed access that reports what does not fit.
class JsonValue {
public:
    enum class Form : std::uint8_t {
        json,
        words, ///< from the command line: a string may be a number, or what parse_switch() takes
    };
    JsonValue(const nlohmann::json& json, std::string pointer, std::vector<Error>& problems, Form form = Form::json)
        : json_{json}, pointer_{std::move(pointer)}, problems_{problems}, form_{form} {}
    /// Relative paths in it are relative to this folder; empty: to the process's.
    JsonValue(const JsonValue& at, std::string_view folder) : JsonValue{at} { folder_ = folder; }
    /// A member of this object: what `key` holds.
    [[nodiscard]] JsonValue member(const std::string& key, const nlohmann::json& json) const;

    [[nodiscard]] const nlohmann::json& json() const { return json_; }
    [[nodiscard]] const std::string& pointer() const { return pointer_; }
    [[nodiscard]] Form form() const { return form_; }
    [[nodiscard]] std::string_view folder() const { return folder_; }
    /// Where reports go, for values inside this one.
    [[nodiscard]] std::vector<Error>& problems() const { return problems_; }

    // Each returns nullopt after reporting config_type, or config_value where the type is right.
    [[nodiscard]] std::optional<bool> boolean() const;
    [[nodiscard]] std::optional<std::string> text() const;
    /// Both inclusive.
    struct Bounds {
        std::uint64_t least;
        std::uint64_t most;
    };
    /// Integers outside the bounds are reported with `range_code`. `told`: what a report names where a rule of the
    /// whole configuration allows less than these.
    [[nodiscard]] std::optional<std::uint64_t> number(Bounds bounds, Errc range_code) const {
        return number(bounds, range_code, bounds);
    }
    [[nodiscard]] std::optional<std::uint64_t> number(Bounds bounds, Errc range_code, Bounds told) const;
    /// Index of the string among `names`.
    [[nodiscard]] std::optional<std::size_t> one_of(std::span<const std::string_view> names) const;

    void report(Errc code, std::string what, std::string hint = {}, ErrorDetail detail = {}) const;
    /// "expected ..., got VALUE"; `words`: where the type alone says too little.
    void report_type(JsonType expected, std::string_view words = {}) const;
    /// This value has a key that is none of those.
    void report_unknown(const std::string& key, Names known) const;
    /// Of an object: it lacks this key, which has static storage duration.
    void report_missing(std::string_view key) const;

private:
    [[nodiscard]] std::string value_text() const;

    const nlohmann::json& json_;
    std::string pointer_;
    std::vector<Error>& problems_;
    Form form_;
    std::string_view folder_{};
};

/// config_value: the string is none of these.
Error not_one_of(std::string_view given, const Names& names, std::string where);

/// "a, b or c"
std::string list_text(std::span<const std::string_view> names);

} // namespace inox
