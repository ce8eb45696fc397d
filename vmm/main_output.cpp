// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <unistd.h>

#include "vmm/base/os.hpp"
#include "vmm/machine/config_text.hpp"
#include "vmm/main_commands.hpp"

namespace vmm::cli {

bool print(std::string_view text) { return write_all(STDOUT_FILENO, text).has_value(); }

int print_and_finish(std::string_view text) {
    if (print(text))
        return 0;
    return report_problem({Errc::output_unwritable,
                           "cannot write to standard output",
                           "is the disk full, or the reader of the pipe gone?",
                           {},
                           errno});
}

int report_problems(std::span<const Error> problems, const std::string& file) {
    for (Error problem : problems) {
        if (!file.empty() && (problem.where.empty() || problem.where.starts_with('/')))
            problem.where = printable(file, 200) + (problem.where.empty() ? "" : "#" + problem.where);
        static_cast<void>(write_all(STDERR_FILENO, problem.report())); // nowhere left to complain
    }
    return problems.empty() ? 0 : exit_code(problems.front().code);
}

int report_problem(Error problem) { return report_problems({&problem, 1}); }

Result<void> start_log(const LogConfig& log, log::Level default_level) {
    log::set_level(log.level.value_or(default_level));
    if (log.path.empty())
        return {};
    auto file = TRY(open_output(log.path));
    log::set_sink(file.release()); // open until the process ends
    return {};
}

} // namespace vmm::cli
