// SPDX-License-Identifier: Apache-2.0
// Where in a JSON text something stands: for messages that name line and column as serde does. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace inox::api::firecracker {

enum class Part { key, value };

/// Offset of the last byte of the member that the JSON pointer names: of its key, or of its value; of the whole text's
/// value for an empty pointer. `text` is valid JSON; npos when there is no such member.
std::size_t last_byte(std::string_view text, std::string_view pointer, Part part);

/// "line 1 column 21" of that byte, both counted from 1.
std::string line_and_column(std::string_view text, std::size_t offset);

} // namespace inox::api::firecracker
