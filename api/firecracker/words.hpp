// SPDX-License-Identifier: Apache-2.0
// Errors in Firecracker's words, which its clients match on: made from an error's code and detail, never from its text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox::api::firecracker {

/// The same with Firecracker's sentence in `what`, where Firecracker has one for it.
Error in_words(Error error);

/// A JSON body, and its text when a client sent it like this, so that a message may name its lines and columns.
struct Body {
    const nlohmann::json& root;
    std::string_view text{};
};
/// The same for a body that does not fit, with serde's words and places.
Error in_words(Error problem, const Body& body);

/// "No such file or directory (os error 2)"
std::string os_error(const Error& error);

} // namespace inox::api::firecracker
