// SPDX-License-Identifier: Apache-2.0
// Answers and bodies, for the routes' own files.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "api/routes.hpp"

namespace inox::api {

using Json = nlohmann::ordered_json;

// Answers

Response ok(const Json& body);
inline Response done() { return {}; }
/// {"fault_message", "code"} and a hint if there is one; `prefix` goes before the error's text.
Response refusal(const Error& error, std::string_view prefix = {}, unsigned status = 400);
Response refusal(Errc code, std::string text, std::string hint = {});
/// no_resource for more devices than the machine has room for, in Firecracker's words; others as they are.
Error device_room_problem(Error error);
/// 204, or the refusal.
Response outcome(const Result<void>& result, std::string_view prefix = {});

/// An action that answers at once with what `work(Services&)` returns.
template <class F> Action answering(F work) {
    return [work = std::move(work)](Services& services, const std::shared_ptr<Exchange>& exchange) mutable {
        exchange->answer(work(services));
    };
}

// Bodies

/// A body read as a section of the configuration.
struct SectionBody {
    ConfigFile file{};
    std::vector<std::string> keys{};
    std::optional<Response> refusal{};

    [[nodiscard]] bool has(std::string_view key) const;
};
/// Whether the client sent the text like this, so that a refusal may name lines and columns of it.
enum class Text : bool { sent, rewritten };
SectionBody read_section(std::string_view section, std::string_view text, ConfigFile seed = {}, bool partial = false,
                         Text from = Text::sent);
/// The same for a change: only these keys are known, the first is required.
SectionBody read_change(std::string_view section, std::string_view text, std::initializer_list<std::string_view> keys);

/// A small body of its own.
struct FieldSpec {
    std::string_view name;
    enum class Type : std::uint8_t { text, number, boolean } type;
    bool required{true};
    std::uint64_t most{UINT32_MAX}; ///< of a number
};
struct ObjectBody {
    nlohmann::json root{};
    std::optional<Response> refusal{};
};
/// Fields that are not named here are refused, or ignored.
enum class Unknown : bool { refused, ignored };
ObjectBody read_object(std::string_view text, std::initializer_list<FieldSpec> fields,
                       Unknown unknown = Unknown::refused);

/// Firecracker's text for a body that does not fit, with serde's words and places.
Response body_refusal(const Error& problem, std::string_view text, std::span<const std::string_view> known,
                      Text from = Text::sent);

} // namespace inox::api
