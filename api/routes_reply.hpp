// SPDX-License-Identifier: Apache-2.0
// Answers and bodies, for the routes' own files.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "api/firecracker/words.hpp"
#include "api/routes.hpp"
#include "vmm/config/config_json.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;

// Answers

Response ok(const Json& body);
inline Response done() { return {}; }
/// {"fault_message", "code"} and a hint if there is one; `prefix` goes before the error's text.
Response refusal(const Error& error, std::string_view prefix = {}, unsigned status = 400);
Response refusal(Errc code, std::string text, std::string hint = {});
/// 204, or the refusal in Firecracker's words.
Response outcome(const Result<void>& result, std::string_view prefix = {});

/// An action that answers at once with what `work(Services&)` returns.
template <class F> Action answering(F work) {
    return [work = std::move(work)](Services& services, const std::shared_ptr<Exchange>& exchange) mutable {
        exchange->answer(work(services));
    };
}

// Bodies

struct ObjectBody {
    nlohmann::json root{};
    std::optional<Error> problem{}; ///< the first, and the answer to it
    std::optional<Response> refusal{};

    /// `text`: as firecracker::Body has it.
    void refuse(Error error, std::string_view text);
};

/// A body read as a section of the configuration.
struct SectionBody : ObjectBody {
    ConfigFile file{};
    std::vector<std::string> keys{};

    [[nodiscard]] bool has(std::string_view key) const;
};
/// `required`: as parse_section() has it.
SectionBody read_section(std::string_view section, std::string_view text,
                         std::optional<Dialect> required = Dialect::firecracker);
/// `text`: as firecracker::Body has it.
SectionBody read_section(std::string_view section, JsonText json, std::string_view text,
                         std::optional<Dialect> required);
/// The same for a change: only these keys are known, the first is required. They have static storage duration.
SectionBody read_change(std::string_view section, std::string_view text, std::initializer_list<std::string_view> keys);

/// A small body of its own.
struct FieldSpec {
    std::string_view name; ///< with static storage duration
    enum class Type : std::uint8_t { text, number, boolean } type;
    bool required{true};
    std::uint64_t most{UINT32_MAX}; ///< of a number
};
/// Fields that are not named here are refused, or ignored.
enum class Unknown : bool { refused, ignored };
ObjectBody read_object(std::string_view text, std::initializer_list<FieldSpec> fields,
                       Unknown unknown = Unknown::refused);

Response body_refusal(const Error& problem, const firecracker::Body& body);

} // namespace inox::api
