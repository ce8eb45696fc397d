// SPDX-License-Identifier: Apache-2.0
// Whether this host can give the devices of a configuration to its guest, found out without opening one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "devices/vfio/lock_limit.hpp"
#include "vmm/machine/config.hpp"

namespace vmm {

/// Every problem, with the JSON pointer of the device in `where`. `root` is put before every path of /sys, /proc and
/// /dev; `limit`: this process's own.
std::vector<Error> vfio_preflight(const Config& config, const std::string& root,
                                  std::optional<devices::vfio::LockLimit> limit = {});

} // namespace vmm
