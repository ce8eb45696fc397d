// SPDX-License-Identifier: Apache-2.0
// What the operator asked for, typed. Values are checked by parsing and by check(); nothing here touches the host.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace vmm {

struct MachineConfig {
    unsigned cpus{1};                ///< 1..layout::max_cpus
    std::uint64_t memory{128 * MiB}; ///< bytes
    HugePages huge_pages{HugePages::none};
    bool smt{false};
};

struct BootConfig {
    std::string kernel{}; ///< path; empty boots the built-in hello guest
    std::string initrd{}; ///< path; empty for none
    std::string cmdline{};
};

struct Config {
    MachineConfig machine{};
    BootConfig boot{};
};

} // namespace vmm
