// SPDX-License-Identifier: Apache-2.0
// `inox test`: kernels and machines to a verdict.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "vmm/base/os.hpp"
#include "vmm/base/replace_output.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/main_test_options.hpp"
#include "vmm/test/report.hpp"
#include "vmm/test/runner.hpp"
#include "vmm/test/slurm.hpp"

namespace inox::cli {
namespace {

int unable(Error problem) {
    report_problem(std::move(problem));
    return test::Outcome::unable_code;
}

Result<void> name_folder(test::RunnerOptions& options, bool shared) {
    if (!options.folder.empty())
        return {};
    const char* parent = std::getenv("TMPDIR");
    std::string folder = std::string{parent == nullptr || *parent == 0 ? "/tmp" : parent} + "/inox-test.XXXXXX";
    if (shared) // by all nodes, as the current directory is
        folder = std::filesystem::current_path().string() + "/inox-test.XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr)
        return fail_errno(Errc::output_unwritable, "cannot make a folder " + folder,
                          "name one with --artifacts, or set TMPDIR");
    options.folder = folder;
    return {};
}

/// This process again as each task, with the same arguments.
Result<std::vector<test::Done>> submit(TestOptions& wanted, std::span<const test::Machine> machines,
                                       Arguments arguments) {
    std::error_code error;
    auto& options = wanted.slurm;
    options.folder = std::filesystem::absolute(wanted.runner.folder, error).string();
    std::filesystem::create_directories(options.folder, error);
    if (error)
        return fail(Errc::output_unwritable, "cannot make the folder " + options.folder + ": " + error.message(),
                    "name another one with --artifacts, on a file system that all nodes share");
    for (std::size_t i = 0; i < machines.size(); ++i) // of a test before
        std::filesystem::remove(test::outcome_file(options.folder, i), error);
    options.task = {std::filesystem::read_symlink("/proc/self/exe", error).string(), "test", "--slurm-task",
                    options.folder};
    options.task.insert(options.task.end(), arguments.begin(), arguments.end());
    options.at_once = wanted.runner.at_once > 1 ? wanted.runner.at_once : 0;
    options.announce = !wanted.tap;
    return test::run_by_slurm(wanted.plan, machines, options);
}

/// One machine of the array; its outcome goes to a file of its index.
int run_task(TestOptions& wanted, std::span<const test::Machine> machines) {
    const char* text = std::getenv("SLURM_ARRAY_TASK_ID");
    const auto index = parse_number(text == nullptr ? "" : text);
    if (!index || *index >= machines.size())
        return unable(error_at("--slurm-task", Errc::bad_option, "this is no task of Slurm's job array",
                               "inox test --slurm starts such tasks"));
    wanted.runner.folder = wanted.slurm_task;
    wanted.runner.announce = true;
    wanted.runner.stream = false; // the folder has it
    wanted.runner.at_once = 1;
    const auto done = test::run_machines(wanted.plan, machines.subspan(*index, 1), wanted.runner);
    if (!done)
        return unable(done.error());
    const auto& outcome = done->front().outcome;
    auto written = replace_output(test::outcome_file(wanted.slurm_task, *index), test::outcome_json(outcome));
    return written ? outcome.code : unable(std::move(written).error());
}

} // namespace

int test_command(Arguments arguments) {
    auto read = read_test_options(arguments);
    if (const auto* code = std::get_if<int>(&read))
        return *code == 0 ? 0 : test::Outcome::unable_code;
    auto& wanted = std::get<TestOptions>(read);
    const auto& machines = wanted.machines;
    if (!wanted.slurm_task.empty())
        return run_task(wanted, machines);
    const bool own_folder = wanted.runner.folder.empty();
    if (auto named = name_folder(wanted.runner, wanted.by_slurm); !named)
        return unable(std::move(named).error());
    const auto started = std::chrono::steady_clock::now();
    wanted.runner.announce = !wanted.tap;
    auto done = wanted.by_slurm ? submit(wanted, machines, arguments)
                                : test::run_machines(wanted.plan, machines, wanted.runner);
    std::error_code ignored;
    if (own_folder)
        std::filesystem::remove(wanted.runner.folder, ignored); // if nothing was kept
    if (!done)
        return unable(std::move(done).error());
    const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    std::vector<test::Outcome> outcomes;
    for (const auto& one : *done)
        outcomes.push_back(one.outcome);
    if (!wanted.junit.empty()) {
        const auto file = open_output(wanted.junit, OutputStart::replace);
        auto written = file ? write_all(file->get(), test::junit_xml(*done, seconds))
                            : Result<void>{std::unexpected{file.error()}};
        if (!written)
            return unable(std::move(written).error());
    }
    if (wanted.tap && !print(test::tap_text(*done))) {
        report_unheard();
        return test::Outcome::unable_code;
    }
    if (done->size() > 1 && !wanted.tap)
        static_cast<void>(write_all(STDERR_FILENO, test::table_text(*done, seconds)));
    return test::whole_code(outcomes);
}

} // namespace inox::cli
