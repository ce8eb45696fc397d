// SPDX-License-Identifier: Apache-2.0
// Answers of the API as people read them: tables for lists, a line a value for objects. Pure.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox::api {

enum class View {
    status,
    config,
    machine,
    drives,
    nets,
    balloon,
    devices,
    exits,
    irqs,
    iommu,
    mappings,
    pasids,
    guests,
    clones,
    spawned
};

/// The answer's body as text that ends with a newline; the body itself when it is no JSON.
std::string table_text(View view, std::string_view body);
/// One line of /inox/events.
std::string event_text(std::string_view line);
/// The error that a refusal's body holds: the server's text in any case, its code and hint where it gave them.
Error refusal_error(unsigned status, std::string_view body);
/// Prometheus' text format as a list of {"name","labels","type","value"}.
std::string metrics_json(std::string_view prometheus);
/// The text at the end of this path of members; empty when there is none.
std::string text_in(std::string_view body, const std::vector<const char*>& path);
/// The body with its object indented; itself when it is no JSON.
std::string pretty(std::string_view body);

/// A JSON object of strings, numbers or true/false, for request bodies: values are JSON text already.
std::string object_text(const std::vector<std::pair<std::string, std::string>>& members);
/// A JSON string.
std::string quoted_json(std::string_view text);
/// The word itself when it is JSON, such as a number, true or an object; else a JSON string.
std::string json_or_quoted(std::string_view word);

} // namespace inox::api
