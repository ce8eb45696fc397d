// SPDX-License-Identifier: Apache-2.0
// Which command lines of passt the broker starts: whoever took a confined process over could ask for others, and passt
// has options that write files.
#pragma once

#include <span>
#include <string>

namespace inox::confine {

/// The words behind the program's name: only options that inox itself uses, with values that are numbers, addresses
/// and ports.
[[nodiscard]] bool are_passt_words(std::span<const std::string> words);

} // namespace inox::confine
