// SPDX-License-Identifier: Apache-2.0
// Limits of this process (getrlimit(2)).
#pragma once

#include <cstdint>
#include <optional>

namespace inox {

/// The limit in force on `resource`, an RLIMIT_ constant, in its unit; nullopt where there is none. Any thread.
std::optional<std::uint64_t> soft_limit(int resource);

} // namespace inox
