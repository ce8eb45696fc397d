// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace inox {

/// What to do about a path that open(2), bind(2), stat(2) or their like refused with this errno; `otherwise` for one
/// that says nothing about the path itself.
std::string open_hint(int error, std::string otherwise = {});

} // namespace inox
