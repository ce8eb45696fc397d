// SPDX-License-Identifier: Apache-2.0
// Limits of this process (getrlimit(2)).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "vmm/base/error.hpp"

namespace inox {

/// The limit in force on `resource`, an RLIMIT_ constant, in its unit; nullopt where there is none. Any thread.
std::optional<std::uint64_t> soft_limit(int resource);

/// memory_unavailable where RLIMIT_FSIZE keeps `what`, a file in memory (memfd), from having so many bytes: to try
/// would end the process (SIGXFSZ).
Result<void> check_memory_file(const std::string& what, std::uint64_t bytes);

} // namespace inox
