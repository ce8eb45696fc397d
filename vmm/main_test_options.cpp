// SPDX-License-Identifier: Apache-2.0
#include "vmm/main_test_options.hpp"

#include <algorithm>

#include "vmm/base/replace_output.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/main_command.hpp"

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
  inox test --config configs/test.json
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

/// The options of `inox test` as they were given, and those of `inox run` beside them.
class Line {
public:
    Line(Arguments before) : command_{"inox test", about, examples, before} {
        command_.add_list("--kernel", kernels_, "KERNEL",
                          "bzImage, vmlinux, build directory, `host`, or a release in /boot such as 6.12; repeatable",
                          'k');
        command_.add_list("--cpus", cpus_, "N[,N...]", "numbers of CPUs; default 1", 'c');
        command_.add_list("--memory", memory_, "SIZE[,SIZE...]", "memory sizes; default 128M", 'm');
        command_.add("--timeout", timeout_, "TIME", "end a machine after this time; default 10m");
        command_.add("--append", append_, "TEXT", "more words for the kernel's command line");
        command_.add_bare("--kunit", switches_[kunit], "[off]",
                          "run the tests that are built into the kernel (KUnit), and nothing else");
        command_.add("--jobs", jobs_, "N", "machines at a time; default 1", 'j');
        command_.add("--junit", junit_, "FILE", "write the results as JUnit XML");
        command_.add_bare("--tap", switches_[tap], "[off]", "print the results as TAP 14, and no output of the guests");
        command_.add("--artifacts", artifacts_, "DIR",
                     "what failures leave: console, output, result; default: a new folder in $TMPDIR");
        command_.add_bare("--show-console", switches_[show_console], "[off]", "print the guests' consoles, too");
        command_.add_bare("--slurm", switches_[slurm], "[off]",
                          "run the machines as a job array of Slurm, --jobs of them at a time");
        command_.add_list("--slurm-option", slurm_words_, "WORD",
                          "an option for sbatch, such as --slurm-option --partition=kvm");
        if (!command_.shows_help()) // a task of that array
            command_.add("--slurm-task", slurm_task_, "DIR", "");
        command_.add("--config", config_, "FILE",
                     "configuration file of the machines and, in its section `test`, of the test; options override it");
        add_run_options();
    }

    std::optional<int> parse() { return command_.parse(); }

    /// Reads the file, and puts the options over it.
    void apply(TestOptions& out, std::vector<Error>& problems);
    [[nodiscard]] const std::string& file() const { return config_; }
    /// Where a value comes from: the option, or the key of the file.
    [[nodiscard]] std::string place(const char* option, const char* key) const {
        return config_.empty() || command_.has(option) ? option : key;
    }

private:
    static constexpr const char* about =
        "Boots kernels on one or more machines, runs a command in each, and gives a verdict.";
    enum Switch : std::uint8_t { kunit, tap, show_console, slurm };
    static constexpr const char* switch_names[] = {"--kunit", "--tap", "--show-console", "--slurm"};

    void add_run_options() {
        for (std::size_t i = 0; i < options_.size(); ++i) {
            const auto& option = options_[i];
            if (is_own(option.name) || command_.shows_help())
                continue;
            if (option.value == nullptr)
                command_.add_switch(option.name, option.help, option.letter);
            else if (option.bare)
                command_.add_bare(option.name, values_[i].emplace_back(), option.value, option.help);
            else
                command_.add_list(option.name, values_[i], option.value, option.help, option.letter);
        }
    }
    void read_config(TestOptions& out, std::vector<Error>& problems);
    void put_run_options(test::Plan& plan);
    void put_switch(Switch which, bool& on, std::vector<Error>& problems);

    Command command_;
    std::vector<std::string> kernels_{};
    std::vector<std::string> cpus_{};
    std::vector<std::string> memory_{};
    std::string timeout_{};
    std::string append_{};
    std::string jobs_{};
    std::string junit_{};
    std::string artifacts_{};
    std::vector<std::string> slurm_words_{};
    std::string slurm_task_{};
    std::string config_{};
    std::string switches_[std::size(switch_names)];
    std::span<const CommandOption> options_{run_options()};
    std::vector<std::vector<std::string>> values_{options_.size()};
};

Error refused(std::string where, std::string what, std::string hint) {
    return error_at(std::move(where), Errc::bad_option, std::move(what), std::move(hint));
}

std::string time_text(std::chrono::milliseconds time) {
    return time.count() % 1000 == 0 ? std::to_string(time.count() / 1000) + "s" : std::to_string(time.count()) + "ms";
}

void Line::read_config(TestOptions& out, std::vector<Error>& problems) {
    if (config_.empty() || config_ == "-") {
        problems.push_back(refused("--config",
                                   config_.empty() ? "the path is empty" : "standard input cannot be read twice",
                                   "each machine reads the file: name one"));
        return;
    }
    auto parsed = load_config(config_, Dialect::inox, Transport::pci, Rules::later);
    std::ranges::move(parsed.problems, std::back_inserter(problems));
    auto& config = parsed.file.config;
    auto& test = parsed.file.test;
    auto& plan = out.plan;
    plan.options.push_back({"--config", config_});
    plan.kernels = std::move(test.kernels);
    plan.kernels_key = "/test/kernels";
    if (plan.kernels.empty() && !config.boot.kernel.empty()) {
        plan.kernels.push_back(config.boot.kernel);
        plan.kernels_key = "/boot-source/kernel_image_path";
    }
    plan.cpus = std::move(test.cpus);
    plan.memory = std::move(test.memory);
    plan.append = std::move(test.append);
    plan.kunit = test.kunit;
    if (const auto limit = parsed.file.run.timeout)
        plan.timeout = time_text(*limit);
    if (config.boot.own_cmdline && !config.boot.cmdline.empty())
        plan.cmdline = config.boot.cmdline;
    if (config.command)
        plan.command = std::move(config.command->arguments);
    if (config.root)
        plan.in_file.emplace_back("--root");
    if (!parsed.file.run.symbols.empty())
        plan.in_file.emplace_back("--symbols");
    if (device_of<ConsoleConfig>(config) != nullptr)
        plan.in_file.emplace_back("--console");
    out.runner.at_once = test.jobs.value_or(1);
    out.runner.folder = std::move(test.artifacts);
    out.runner.console = test.show_console;
    out.junit = std::move(test.junit);
    out.tap = test.tap;
    out.by_slurm = test.slurm;
    out.slurm.words = std::move(test.slurm_options);
}

void Line::put_run_options(test::Plan& plan) {
    for (std::size_t i = 0; i < options_.size(); ++i) {
        const auto& option = options_[i];
        if (is_own(option.name) || !command_.has(option.name))
            continue;
        if (option.value == nullptr)
            plan.options.push_back({option.name, std::nullopt});
        for (const auto& value : values_[i])
            plan.options.push_back({option.name, option.bare && value.empty() ? std::nullopt : std::optional{value}});
        if (option.name == std::string_view{"--cmdline"})
            plan.cmdline = values_[i].back();
    }
}

void Line::put_switch(Switch which, bool& on, std::vector<Error>& problems) {
    if (!command_.has(switch_names[which]))
        return;
    const auto& text = switches_[which];
    const auto asked = text.empty() ? std::optional{true} : parse_switch(text);
    on = asked.value_or(on);
    if (!asked)
        problems.push_back(
            refused(switch_names[which], in_quotes(text) + " is neither on nor off", "the option alone turns it on"));
}

void Line::apply(TestOptions& out, std::vector<Error>& problems) {
    if (command_.has("--config"))
        read_config(out, problems);
    auto& plan = out.plan;
    const auto put = [&](const char* name, auto& place, auto& value) {
        if (command_.has(name))
            place = std::move(value);
    };
    auto cpus = split(cpus_);
    auto memory = split(memory_);
    if (command_.has("--kernel"))
        plan.kernels_key = "--kernel";
    put("--kernel", plan.kernels, kernels_);
    put("--cpus", plan.cpus, cpus);
    put("--memory", plan.memory, memory);
    put("--timeout", plan.timeout, timeout_);
    put("--append", plan.append, append_);
    put("--junit", out.junit, junit_);
    put("--artifacts", out.runner.folder, artifacts_);
    put("--slurm-option", out.slurm.words, slurm_words_);
    put_run_options(plan);
    put_switch(kunit, plan.kunit, problems);
    put_switch(tap, out.tap, problems);
    put_switch(show_console, out.runner.console, problems);
    put_switch(slurm, out.by_slurm, problems);
    out.slurm_task = slurm_task_;
    if (command_.has("--junit") && out.junit.empty())
        problems.push_back(refused("--junit", "the path is empty", "name a file"));
    if (command_.has("--artifacts") && out.runner.folder.empty())
        problems.push_back(refused("--artifacts", "the path is empty", "name a folder"));
    if (command_.has("--jobs")) {
        const auto count = parse_number(jobs_);
        if (!count || *count == 0 || *count > TestConfig::most_jobs)
            problems.push_back(
                refused("--jobs", in_quotes(jobs_) + " is not a number from 1 to 1000", "such as --jobs 4"));
        else
            out.runner.at_once = static_cast<unsigned>(*count);
    }
}

} // namespace

std::variant<TestOptions, int> read_test_options(Arguments arguments) {
    const auto dashes = std::ranges::find(arguments, std::string_view{"--"});
    Line line{arguments.first(static_cast<std::size_t>(dashes - arguments.begin()))};
    if (const auto over = line.parse())
        return *over;
    TestOptions out;
    auto& plan = out.plan;
    std::vector<Error> problems;
    line.apply(out, problems);
    if (dashes != arguments.end())
        plan.command.assign(dashes + 1, arguments.end());
    out.runner.stream = !out.tap;

    if (plan.kernels.empty() && (problems.empty() || line.file().empty()))
        problems.push_back(
            refused("--kernel", "no kernel is given", "name a bzImage, a build directory, or a release such as 6.12"));
    if (dashes != arguments.end() && plan.command.empty())
        problems.push_back(
            refused("--", "no command follows", "name a program and its arguments, or leave out the --"));
    if (plan.kunit && !plan.command.empty())
        problems.push_back(refused(line.place("--kunit", "/test/kunit"), "a kernel that tests itself runs no command",
                                   "leave out one of them"));
    if (!parse_duration(plan.timeout))
        problems.push_back(refused("--timeout", no_duration(plan.timeout), duration_rule));
    if (!out.junit.empty())
        if (auto good = check_output(out.junit); !good) {
            problems.push_back(std::move(good).error());
            problems.back().where = line.place("--junit", "/test/junit");
        }
    out.machines = test::machines(plan, problems);
    if (!problems.empty()) {
        report_problems(problems, line.file());
        return test::Outcome::unable_code;
    }
    return out;
}

void check_test(ConfigFile& file, std::vector<Error>& problems) {
    const auto add = [&](Error error, std::string where) {
        error.where = std::move(where);
        problems.push_back(std::move(error));
    };
    const auto& kernels = file.test.kernels;
    const auto few = test::check_count(kernels.size(), file.test.cpus.size(), file.test.memory.size());
    if (!few)
        add(few.error(), "/test/kernels");
    for (std::size_t i = 0; few && i < kernels.size(); ++i) {
        auto kernel = test::find_kernel(kernels[i]);
        if (!kernel) {
            add(std::move(kernel).error(), "/test/kernels/" + std::to_string(i));
        } else if (auto& boot = file.config.boot; boot.kernel.empty()) {
            boot.kernel = kernel->image;
            use_default_cmdline(boot, default_cmdline);
        }
    }
    if (file.test.junit.empty())
        return;
    if (auto good = check_output(file.test.junit); !good)
        add(std::move(good).error(), "/test/junit");
}

} // namespace inox::cli
