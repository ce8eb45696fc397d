// SPDX-License-Identifier: Apache-2.0
// Starts the machines of a plan, each as a process of its own (`inox run`), and collects what became of them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/test/plan.hpp"
#include "vmm/test/report.hpp"

namespace inox::test {

struct RunnerOptions {
    unsigned at_once{1};  ///< machines
    std::string folder{}; ///< what failures leave goes there; made on first need
    bool stream{true};    ///< the command's output goes to standard output as it comes
    bool console{false};  ///< the console goes there too
    bool announce{false}; ///< say on standard error that a machine starts, and its verdict
};

/// One after the other ends, the first ones first. SIGINT and SIGTERM end what runs; what did not run is
/// Verdict::unable. Blocks. Standard input stays unread. output_unwritable, host_error.
Result<std::vector<Done>> run_machines(const Plan& plan, std::span<const Machine> machines,
                                       const RunnerOptions& options);

} // namespace inox::test
