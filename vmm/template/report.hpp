// SPDX-License-Identifier: Apache-2.0
// What the process of a clone tells its template, once: bytes of one program to itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox::clones {

/// `first_instruction`: nanoseconds from the order to it.
void send_report(int to, const Result<void>& running, std::optional<std::uint64_t> first_instruction) noexcept;
/// The same values; host_error for text that is none: the process ended without a word.
Result<std::optional<std::uint64_t>> read_report(std::string_view text);

} // namespace inox::clones
