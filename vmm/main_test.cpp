// SPDX-License-Identifier: Apache-2.0
// `inox test`: kernels and machines to a verdict.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "vmm/base/os.hpp"
#include "vmm/base/replace_output.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/main_command.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/test/report.hpp"
#include "vmm/test/runner.hpp"
#include "vmm/test/slurm.hpp"

namespace inox::cli {
namespace {

constexpr const char* examples =
    R"(Everything behind -- is the command that each guest runs, on the root file system that --root
names (the host's own, read-only below a layer in memory, if it is left out). Without a command
the guest ends by itself. All options of `inox run` work here, too (inox run --help); of those,
--kernel, --cpus and --memory take several values, and each combination is a machine.

Examples:
  inox test --kernel bzImage -- uname -a
  inox test --kernel ../linux -- make -C tools/testing/selftests/timers run_tests
  inox test --kernel 6.1 --kernel 6.12 --cpus 1,4 --memory 512M,2G --jobs 2 --junit out.xml -- ./check.sh
  inox test --kernel bzImage --kunit
  git bisect run sh -c 'make -j8 bzImage || exit 125; inox test --kernel . -- ./reproduce.sh'

The exit code is what `git bisect run` takes: 0 good, the command's own code up to 119, 120 a panic,
121 a hang or a lockup, 122 another report of the kernel, 124 the time is over, 125 nothing was
tested because host, image or options are to blame. With several machines the lowest of 120, 121,
122, the command's, 124 and 125 in this order counts (docs/testing.md).)";

/// Options of a run that a test sets itself.
constexpr std::string_view own_options[] = {"--kernel", "--cpus",       "--memory", "--timeout",
                                            "--result", "--serial-log", "--quiet"};

bool is_own(std::string_view name) { return std::ranges::find(own_options, name) != std::end(own_options); }

/// "1,4" and "1" "4" are the same.
std::vector<std::string> split(const std::vector<std::string>& values) {
    std::vector<std::string> out;
    for (const auto& value : values)
        for (std::size_t at = 0; at <= value.size();) {
            const auto end = std::min(value.find(',', at), value.size());
            if (end > at)
                out.push_back(value.substr(at, end - at));
            at = end + 1;
        }
    return out;
}

struct Wanted {
    test::Plan plan{};
    test::RunnerOptions runner{};
    std::string junit{};
    bool tap{false};
    bool by_slurm{false};
    test::SlurmOptions slurm{};
    std::string slurm_task{}; ///< a task of that job: the folder for its outcome
};

/// What the arguments ask for, or an exit code.
std::variant<Wanted, int> read_arguments(Arguments arguments) {
    const auto dashes = std::ranges::find(arguments, std::string_view{"--"});
    const auto before = arguments.first(static_cast<std::size_t>(dashes - arguments.begin()));
    Wanted out;
    auto& plan = out.plan;
    if (dashes != arguments.end())
        plan.command.assign(dashes + 1, arguments.end());

    Command command{"inox test", "Boots kernels on one or more machines, runs a command in each, and gives a verdict.",
                    examples, before};
    std::vector<std::string> cpus;
    std::vector<std::string> memory;
    std::string jobs;
    std::string config;
    command.add_list("--kernel", plan.kernels, "KERNEL",
                     "bzImage, vmlinux, build directory, `host`, or a release in /boot such as 6.12; repeatable", 'k');
    command.add_list("--cpus", cpus, "N[,N...]", "numbers of CPUs; default 1", 'c');
    command.add_list("--memory", memory, "SIZE[,SIZE...]", "memory sizes; default 128M", 'm');
    command.add("--timeout", plan.timeout, "TIME", "end a machine after this time; default 10m");
    command.add("--append", plan.append, "TEXT", "more words for the kernel's command line");
    command.add_switch("--kunit", "run the tests that are built into the kernel (KUnit), and nothing else");
    command.add("--jobs", jobs, "N", "machines at a time; default 1", 'j');
    command.add("--junit", out.junit, "FILE", "write the results as JUnit XML");
    command.add_switch("--tap", "print the results as TAP 14, and no output of the guests");
    command.add("--artifacts", out.runner.folder, "DIR",
                "what failures leave: console, output, result; default: a new folder in $TMPDIR");
    command.add_switch("--show-console", "print the guests' consoles, too");
    command.add_switch("--slurm", "run the machines as a job array of Slurm, --jobs of them at a time");
    command.add_list("--slurm-option", out.slurm.words, "WORD",
                     "an option for sbatch, such as --slurm-option --partition=kvm");
    if (!command.shows_help()) // a task of that array
        command.add("--slurm-task", out.slurm_task, "DIR", "");
    command.add("--config", config, "FILE", "configuration file of the machines; options override it");
    const auto options = run_options();
    std::vector<std::vector<std::string>> values(options.size());
    for (std::size_t i = 0; i < options.size(); ++i) {
        if (is_own(options[i].name) || command.shows_help())
            continue;
        if (options[i].value == nullptr)
            command.add_switch(options[i].name, options[i].help, options[i].letter);
        else if (options[i].bare)
            command.add_bare(options[i].name, values[i].emplace_back(), options[i].value, options[i].help);
        else
            command.add_list(options[i].name, values[i], options[i].value, options[i].help, options[i].letter);
    }
    if (const auto over = command.parse())
        return *over;

    for (std::size_t i = 0; i < options.size(); ++i) {
        if (is_own(options[i].name) || !command.has(options[i].name))
            continue;
        if (options[i].value == nullptr)
            plan.options.push_back({options[i].name, std::nullopt});
        for (const auto& value : values[i])
            plan.options.push_back(
                {options[i].name, options[i].bare && value.empty() ? std::nullopt : std::optional{value}});
    }
    if (command.has("--config"))
        plan.options.insert(plan.options.begin(), {"--config", config});
    plan.cpus = split(cpus);
    plan.memory = split(memory);
    plan.kunit = command.has("--kunit");
    out.tap = command.has("--tap");
    out.by_slurm = command.has("--slurm");
    out.runner.console = command.has("--show-console");
    out.runner.stream = !out.tap;

    std::vector<Error> problems;
    const auto refuse = [&](const char* option, std::string what, std::string hint) {
        problems.push_back(error_at(option, Errc::bad_option, std::move(what), std::move(hint)));
    };
    if (plan.kernels.empty())
        refuse("--kernel", "no kernel is given", "name a bzImage, a build directory, or a release such as 6.12");
    if (dashes != arguments.end() && plan.command.empty())
        refuse("--", "no command follows", "name a program and its arguments, or leave out the --");
    if (plan.kunit && !plan.command.empty())
        refuse("--kunit", "a kernel that tests itself runs no command", "leave out one of them");
    if (!jobs.empty()) {
        const auto count = parse_number(jobs);
        if (!count || *count == 0 || *count > 1000)
            refuse("--jobs", in_quotes(jobs) + " is not a number from 1 to 1000", "such as --jobs 4");
        else
            out.runner.at_once = static_cast<unsigned>(*count);
    }
    if (!parse_duration(plan.timeout))
        refuse("--timeout", no_duration(plan.timeout), duration_rule);
    if (command.has("--junit") && out.junit.empty())
        refuse("--junit", "the path is empty", "name a file");
    else if (!out.junit.empty())
        if (auto good = check_output(out.junit); !good) {
            problems.push_back(std::move(good).error());
            problems.back().where = "--junit";
        }
    if (command.has("--artifacts") && out.runner.folder.empty())
        refuse("--artifacts", "the path is empty", "name a folder");
    if (!problems.empty()) {
        report_problems(problems);
        return test::Outcome::unable_code;
    }
    return out;
}

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
Result<std::vector<test::Done>> submit(Wanted& wanted, std::span<const test::Machine> machines, Arguments arguments) {
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
int run_task(Wanted& wanted, std::span<const test::Machine> machines) {
    const char* text = std::getenv("SLURM_ARRAY_TASK_ID");
    const auto index = parse_number(text == nullptr ? "" : text);
    if (!index || *index >= machines.size())
        return unable(error_at("--slurm-task", Errc::bad_option, "this is no task of Slurm's job array",
                               "inox test --slurm starts such tasks"));
    wanted.runner.folder = wanted.slurm_task;
    wanted.runner.announce = true;
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
    auto read = read_arguments(arguments);
    if (const auto* code = std::get_if<int>(&read))
        return *code == 0 ? 0 : test::Outcome::unable_code;
    auto& wanted = std::get<Wanted>(read);
    std::vector<Error> problems;
    const auto machines = test::machines(wanted.plan, problems);
    if (!problems.empty()) {
        report_problems(problems);
        return test::Outcome::unable_code;
    }
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
    if (wanted.tap && !print(test::tap_text(*done)))
        return unable({Errc::output_unwritable, "cannot write to standard output", {}, {}, 0});
    if (done->size() > 1 && !wanted.tap)
        static_cast<void>(write_all(STDERR_FILENO, test::table_text(*done, seconds)));
    return test::whole_code(outcomes);
}

} // namespace inox::cli
