// SPDX-License-Identifier: Apache-2.0
// What `inox test` was asked for, by its command line and the configuration file that this names.
#pragma once

#include <string>
#include <variant>

#include "vmm/main_commands.hpp"
#include "vmm/test/plan.hpp"
#include "vmm/test/runner.hpp"
#include "vmm/test/slurm.hpp"

namespace inox::cli {

struct TestOptions {
    test::Plan plan{};
    std::vector<test::Machine> machines{}; ///< of the plan
    test::RunnerOptions runner{};
    std::string junit{};
    bool tap{false};
    bool by_slurm{false};
    test::SlurmOptions slurm{};
    std::string slurm_task{}; ///< a task of that job: the folder for its outcome
};

/// The command line wins over the file. Or an exit code, after help or the problems were printed.
std::variant<TestOptions, int> read_test_options(Arguments arguments);

/// For `inox check`: what such a file asks for and this host lacks. A machine without a kernel of its own gets the
/// first one, so that the rest can be checked.
void check_test(ConfigFile& file, std::vector<Error>& problems);

} // namespace inox::cli
