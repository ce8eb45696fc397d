// SPDX-License-Identifier: Apache-2.0
// How Firecracker's log lines begin, and what its lines of metrics are.
#pragma once

#include <string>

#include "vmm/instance/logging.hpp"
#include "vmm/instance/metrics.hpp"

namespace inox::api::firecracker {

/// "TIME [ID:THREAD:LEVEL:FILE:LINE] ", from info on.
extern const LogShape log_shape;

/// {"utc_timestamp_ms":N,"block":{...},"block_root":{...}}: a device's group carries its id, the plain one is the sum.
/// With the id of the instance and the properties that the configuration asks for.
std::string metrics_line(const Samples& samples, const std::string& id, const MetricsConfig& config);

} // namespace inox::api::firecracker
