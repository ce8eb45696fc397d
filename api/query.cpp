// SPDX-License-Identifier: Apache-2.0
#include "api/query.hpp"

#include <algorithm>
#include <charconv>

#include "vmm/config/config_json.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::api {

namespace {

constexpr std::uint64_t longest_page = 1000;

/// Decodes "%20" to a space, for example; what is no such code stays.
std::string decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned char code = 0;
        if (text[i] == '%' && i + 2 < text.size()) {
            const auto* const first = text.data() + i + 1;
            if (const auto [end, error] = std::from_chars(first, first + 2, code, 16);
                error == std::errc{} && end == first + 2) {
                out += static_cast<char>(code);
                i += 2;
                continue;
            }
        }
        out += text[i];
    }
    return out;
}

/// "a, b and c"
std::string listed(std::initializer_list<std::string_view> words) {
    std::string out;
    std::size_t left = words.size();
    for (const auto word : words) {
        out += word;
        --left;
        out += left > 1 ? ", " : left == 1 ? " and " : "";
    }
    return out;
}

} // namespace

Query::Query(std::string_view text, std::initializer_list<std::string_view> known) {
    while (!text.empty() && !refusal_) {
        const auto word = text.substr(0, text.find('&'));
        text.remove_prefix(std::min(word.size() + 1, text.size()));
        if (word.empty())
            continue;
        const auto equals = std::min(word.find('='), word.size());
        auto name = decoded(word.substr(0, equals));
        if (known.size() == 0)
            refuse("there is no parameter " + in_quotes(name) + " here: this path takes none",
                   "leave out what follows the '?'");
        else if (std::ranges::find(known, name) == known.end())
            refuse("there is no parameter " + in_quotes(name) + " here: this path takes " + listed(known),
                   "see /inox/openapi.json");
        else if (has(name))
            refuse(in_quotes(name) + " is given twice", "give it once");
        else
            values_.emplace_back(std::move(name), decoded(word.substr(std::min(equals + 1, word.size()))));
    }
}

const std::string* Query::value(std::string_view name) const {
    const auto found = std::ranges::find(values_, name, [](const auto& one) { return std::string_view{one.first}; });
    return refusal_ || found == values_.end() ? nullptr : &found->second;
}

void Query::refuse(std::string what, std::string hint) {
    if (!refusal_)
        refusal_ = api::refusal(Errc::bad_option, std::move(what), std::move(hint));
}

std::optional<std::uint64_t> Query::number(std::string_view name, std::uint64_t most) {
    const auto* text = value(name);
    if (text == nullptr)
        return std::nullopt;
    const auto number = parse_number(*text);
    if (number && *number <= most)
        return number;
    refuse(std::string{name} + " is " + in_quotes(*text) +
               (number ? ", which is too large" : ", which is not a number"),
           "it is a decimal number" + (most == UINT64_MAX ? std::string{} : ", at most " + std::to_string(most)));
    return std::nullopt;
}

std::optional<std::uint64_t> Query::address(std::string_view name) {
    const auto* text = value(name);
    if (text == nullptr)
        return std::nullopt;
    std::string_view digits{*text};
    if (digits.starts_with("0x"))
        digits.remove_prefix(2);
    std::uint64_t address = 0;
    const auto* const last = digits.data() + digits.size();
    if (const auto [end, error] = std::from_chars(digits.data(), last, address, 16);
        error == std::errc{} && end == last)
        return address;
    refuse(std::string{name} + " is " + in_quotes(*text) + ", which is not an address",
           "it is a hexadecimal number of 64 bits: " + std::string{name} + "=0x1000");
    return std::nullopt;
}

bool Query::boolean(std::string_view name) {
    const auto* text = value(name);
    if (text == nullptr || *text == "false")
        return false;
    if (*text != "true")
        refuse(std::string{name} + " is " + in_quotes(*text) + ", neither true nor false",
               "write " + std::string{name} + "=true or " + std::string{name} + "=false");
    return *text == "true";
}

std::optional<DeviceKind> Query::kind() {
    const auto* text = value("kind");
    if (text == nullptr)
        return std::nullopt;
    const auto kind = parse_kind(*text);
    if (!kind)
        refuse(in_quotes(*text) + " is not a kind of device", "it is " + list_text(all_kind_names()));
    return kind;
}

void Query::needs(std::string_view name, std::string_view other) {
    if (has(name) && !has(other))
        refuse(std::string{name} + " goes with " + std::string{other} + " only",
               "name the " + std::string{other} + " too");
}

void Query::excludes(std::string_view name, std::string_view other) {
    if (has(name) && has(other))
        refuse(std::string{name} + " does not go with " + std::string{other}, "leave one of them out");
}

PageWindow page_window(Query& query) {
    PageWindow window;
    window.offset = static_cast<std::size_t>(query.number("offset").value_or(window.offset));
    window.limit = static_cast<std::size_t>(query.number("limit", longest_page).value_or(window.limit));
    return window;
}

Response page(const Json& items, const PageWindow& window) {
    const auto first = std::min(window.offset, items.size());
    const auto count = std::min(window.limit, items.size() - first);
    Json part = Json::array();
    for (std::size_t i = first; i < first + count; ++i)
        part.push_back(items[i]);
    return ok({{"items", std::move(part)}, {"offset", window.offset}, {"total", items.size()}});
}

} // namespace inox::api
