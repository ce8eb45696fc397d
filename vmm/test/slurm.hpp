// SPDX-License-Identifier: Apache-2.0
// The machines of a plan as one job array of Slurm: a task each, on whatever nodes there are.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/test/plan.hpp"
#include "vmm/test/report.hpp"

namespace inox::test {

struct SlurmOptions {
    std::vector<std::string> task{}; ///< the words of each task, which finds its index in SLURM_ARRAY_TASK_ID
    std::string folder{}; ///< every node sees it under this path; task N leaves outcome_file(folder, N) in it
    unsigned at_once{};   ///< tasks; 0: as many as the cluster takes
    std::vector<std::string> words{}; ///< more options of sbatch
    bool announce{false};
};

std::string outcome_file(const std::string& folder, std::size_t index);

/// Submits, waits, and gathers. A task that ended without an outcome is Verdict::unable, with what Slurm says of its
/// end. SIGINT and SIGTERM cancel the job. unsupported without Slurm's commands; host_error with what they say.
Result<std::vector<Done>> run_by_slurm(const Plan& plan, std::span<const Machine> machines,
                                       const SlurmOptions& options);

/// What `scontrol --oneliner show job` says of a task, as far as we need it.
struct TaskState {
    std::size_t index{};
    std::string state{}; ///< "RUNNING"
    int code{};
    int signal{};
    /// It will not leave an outcome any more.
    [[nodiscard]] bool is_over() const;
    [[nodiscard]] std::string text() const;
};
/// Of each task; those that have not started stand in one line.
std::vector<TaskState> parse_states(const std::string& text);

} // namespace inox::test
