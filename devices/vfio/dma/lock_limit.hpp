// SPDX-License-Identifier: Apache-2.0
// How much memory this process may lock: what is mapped for DMA is pinned, and the host counts it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "vmm/base/error.hpp"

namespace inox::devices::vfio {

class LockLimit {
public:
    /// This process's: none with CAP_IPC_LOCK or an unlimited RLIMIT_MEMLOCK. `root` stands before /proc.
    static LockLimit of_process(const std::string& root = {});
    /// A fixed one; nullopt: none.
    explicit LockLimit(std::optional<std::uint64_t> bytes, std::uint64_t locked_before = 0)
        : bytes_{bytes}, locked_before_{locked_before} {}

    [[nodiscard]] std::optional<std::uint64_t> bytes() const { return bytes_; }
    /// no_resource, with the number needed, when `more` bytes on top of `pinned` are too many. `what` wants them.
    [[nodiscard]] Result<void> check(std::uint64_t pinned, std::uint64_t more, const std::string& what) const;

private:
    std::optional<std::uint64_t> bytes_;
    std::uint64_t locked_before_;
    bool of_process_{false}; ///< ask again before refusing: the limit can be raised from outside
};

/// Bytes of this process that the host has locked or pinned now. `root` stands before /proc.
std::uint64_t locked_now(const std::string& root);
/// "ulimit -l 1048576, or LimitMEMLOCK=..." for so many bytes.
std::string raise_lock_limit_hint(std::uint64_t bytes);

} // namespace inox::devices::vfio
