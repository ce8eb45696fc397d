// SPDX-License-Identifier: Apache-2.0
// Answers of the API as people read them: tables for lists, a line a value for objects. Pure.
#pragma once

#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace api {

enum class View { status, config, machine, drives, nets, balloon, devices, irqs, iommu, mappings, pasids };

/// The answer's body as text that ends with a newline; the body itself when it is no JSON.
std::string table_text(View view, std::string_view body);
/// One line of /inox/events.
std::string event_text(std::string_view line);
/// The error that a refusal's body holds.
vmm::Error refusal_error(unsigned status, std::string_view body);
/// The body with its object indented; itself when it is no JSON.
std::string pretty(std::string_view body);

/// A JSON object of strings, numbers or true/false, for request bodies: values are JSON text already.
std::string object_text(std::initializer_list<std::pair<std::string_view, std::string>> members);
/// A JSON string.
std::string quoted_json(std::string_view text);

} // namespace api
