// SPDX-License-Identifier: Apache-2.0
// The log as configured.
#pragma once

#include "vmm/config/config_file.hpp"

namespace inox {

/// How lines look, and which are written unless the configuration says so.
struct LogShape {
    decltype(log::Style::prefix) prefix{};
    log::Level level{log::Level::warning};
};

/// From now on log lines go where the configuration says and look like that; may be called again. What is absent keeps
/// its default: standard error, and the level of the shape. output_unwritable.
Result<void> use_log(const LogConfig& log, const LogShape& shape = {}, const std::string& id = {});

} // namespace inox
