// SPDX-License-Identifier: Apache-2.0
// How a run ended, for programs: the JSON object of --result. docs/exit-codes.md has its members.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/instance/verdict/findings.hpp"

namespace inox {

struct RunResult {
    std::string how{};               ///< the closing line's words, such as "the guest powered off"
    int exit_code{};                 ///< of the process
    std::optional<int> guest_code{}; ///< what the guest wrote to its exit port
    std::optional<Error> error{};
    std::chrono::duration<double> took{};
    std::optional<std::chrono::duration<double>> first_instruction{}; ///< since the process's start
    std::optional<std::chrono::duration<double>> user_space{};
    std::vector<Finding> findings{};
    std::uint64_t finding_count{};
    std::vector<std::string> vcpus{};                         ///< where they were when the guest hung
    std::vector<std::pair<std::string, std::string>> files{}; ///< what was kept: "serial_log" and its path
};

/// One line.
std::string result_json(const RunResult& result);
/// Replaces the file at once, so that a reader sees all of it or the one before. output_unwritable.
Result<void> write_result(const std::string& path, const RunResult& result);

} // namespace inox
