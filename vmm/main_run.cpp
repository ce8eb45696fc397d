// SPDX-License-Identifier: Apache-2.0
// `inox run`, `inox check` and `inox host`.
#include <algorithm>
#include <csignal>

#include "api/firecracker/log_and_metrics.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/base/outside/given_socket.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/host/host_report.hpp"
#include "vmm/instance/config_check.hpp"
#include "vmm/instance/logging.hpp"
#include "vmm/instance/move/move_in.hpp"
#include "vmm/instance/move/stream.hpp"
#include "vmm/instance/output_files.hpp"
#include "vmm/instance/run.hpp"
#include "vmm/instance/snapshot/contents.hpp"
#include "vmm/main_command.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/main_test_options.hpp"

namespace inox::cli {
namespace {

constexpr const char* run_examples = R"(Examples:
  inox run                                          the built-in guest says hello
  inox run --kernel bzImage --initrd rd.gz --memory 512M --cpus 2
  inox run -k bzImage -i rd.gz -m 512M -c 2         the same
  inox run --kernel bzImage --initrd rd.gz --timeout 60s --expect 'login:'
  inox run --kernel bzImage --root / -- make test   the host's files, this directory
  inox run --config vm.json --boot-timeline boot.svg
  inox run --id vm1 --allow images                  its API may name files of this folder later
  inox run --incoming unix:/srv/vm1.move            waits for `inox ctl vm1 move unix:/srv/vm1.move`
  inox run --from snap --disk root.img              goes on where `inox ctl vm1 snapshot snap` saved it

Every option has a matching key in the configuration file (docs/config.md). Ctrl-A X ends
a guest from the terminal. The exit codes are in docs/exit-codes.md.)";

/// An option of this command line.
struct Given {
    CommandOption option;
    std::vector<std::string> values;
    std::size_t first{0}; ///< elements that the option's list had before
};

/// Whether this option gave the value at `where`, or the device it is a part of.
bool gave(const Given& given, std::string_view where) {
    const auto twin = given.option.twin;
    if (where == twin)
        return true;
    if (given.option.value == nullptr || !where.starts_with(twin) || where[twin.size()] != '/')
        return false;
    const auto index = where.substr(twin.size() + 1);
    return !given.option.repeated || parse_number(index.substr(0, index.find('/'))).value_or(0) >= given.first;
}

/// A problem has a JSON pointer; when an option gave the value, the option is named instead.
void name_options(std::vector<Error>& problems, std::span<const Given> given) {
    for (auto& problem : problems)
        for (const auto& one : given)
            if (gave(one, problem.where)) {
                problem.where = one.option.name;
                if (problem.code == Errc::config_missing_key)
                    problem.code = Errc::bad_option;
            }
}

/// Where the value stands in a configuration that an option did not take.
std::string twin_of(const std::string& where, std::span<const Given> given) {
    for (const auto& one : given)
        if (where == one.option.name || where.starts_with(one.option.name + std::string{" "}))
            return std::string{one.option.twin};
    return where;
}

/// Adds what `inox check` would find besides the problems that are known, for problems to be told all at once. The
/// first stays the first.
void add_host_problems(const ConfigFile& file, std::span<const Given> given, std::vector<Error>& problems) {
    ParsedConfig parsed{.file = file, .problems = problems};
    for (auto& known : parsed.problems)
        known.where = twin_of(known.where, given);
    auto beside = api_problems(file.api);
    std::ranges::move(gdb_problems(file.run.gdb), std::back_inserter(beside));
    static_cast<void>(preflight(parsed, std::move(beside)));
    std::move(parsed.problems.begin() + static_cast<std::ptrdiff_t>(problems.size()), parsed.problems.end(),
              std::back_inserter(problems));
}

/// Whether another start would fail in the same way: not one that was ended from outside, and not one that /dev/kvm
/// is missing for, which is opened when all else is good.
bool may_have_more(Errc code) {
    static constexpr Errc alone[] = {Errc::kvm_missing, Errc::kvm_denied, Errc::kvm_unusable,
                                     Errc::interrupted, Errc::terminated, Errc::timed_out};
    return std::ranges::find(alone, code) == std::end(alone);
}

/// Of a start that failed.
std::vector<Error> all_problems(Error first, const ConfigFile& file, std::span<const Given> given) {
    std::vector<Error> problems;
    if (may_have_more(first.code)) {
        sigset_t ends; // the watchdog took them
        sigemptyset(&ends);
        sigaddset(&ends, SIGINT);
        sigaddset(&ends, SIGTERM);
        ::pthread_sigmask(SIG_UNBLOCK, &ends, nullptr);
        add_host_problems(file, given, problems);
        std::erase_if(problems, [&](const Error& one) { return one.code == first.code && one.where == first.where; });
    }
    problems.insert(problems.begin(), std::move(first));
    return problems;
}

/// Applies the options to what the file says, then checks the rules on the result. `problems`: of reading the file;
/// more are added.
void apply_options(std::span<Given> given, ConfigFile& file, std::vector<Error>& problems) {
    auto& boot = file.config.boot;
    bool has_cmdline = !boot.kernel.empty();
    for (auto& [option, values, first] : given) {
        has_cmdline |= option.twin == "/boot-source/boot_args";
        first = section_size(file.config, option.twin.substr(1));
        for (const auto& value : values)
            if (auto applied = option.apply(option, value, file); !applied)
                problems.push_back(std::move(applied).error());
    }
    if (!boot.kernel.empty() && !has_cmdline)
        boot.cmdline = default_cmdline;
    std::ranges::move(check_rules(file, Dialect::inox, problems), std::back_inserter(problems));
    std::ranges::move(closed_descriptors(file), std::back_inserter(problems));
}

/// The same, with the options that it came from.
struct Asked : RunAsked {
    std::vector<Given> given{};
    bool made_id{false};    ///< of the guest
    std::string incoming{}; ///< where a guest comes from; empty: none
    std::shared_ptr<MoveIn> move{};
    bool paused{false};
    RestoredClock clock{RestoredClock::goes_on};
};

/// What a snapshot has itself.
bool is_of_machine(std::string_view twin) {
    static constexpr std::string_view sections[] = {"/boot-source",
                                                    "/machine-config",
                                                    "/smbios",
                                                    "/pasid",
                                                    "/root",
                                                    "/command",
                                                    "/inox/pci_window_32_mib",
                                                    "/inox/pci_window_64_mib"};
    return std::ranges::any_of(sections, [&](std::string_view one) { return twin.starts_with(one); });
}

/// The options that only a restored guest has; and those that it cannot have.
Result<void> check_from(const Command& command, std::span<const Given> given, const std::string& clock, Asked& asked) {
    if (command.has("--from") && command.has("--incoming"))
        return fail_at("--incoming", Errc::bad_option, "a guest that comes is no snapshot", "leave one of them out");
    if (command.has("--page-server") && command.has("--incoming"))
        return fail_at("--page-server", Errc::bad_option, "a guest that comes brings its memory", "leave it out");
    if (!command.has("--from") && !command.has("--incoming")) {
        for (const char* name : {"--paused", "--clock", "--page-server"})
            if (command.has(name))
                return fail_at(name, Errc::bad_option, "this is for a guest that is restored", "add --from DIR");
        return {};
    }
    if (asked.from.empty() && command.has("--from"))
        return fail_at("--from", Errc::bad_option, "the path is empty", "name the folder of a snapshot");
    if (command.has("--page-server") && asked.page_server.empty())
        return fail_at("--page-server", Errc::bad_option, "the path is empty", "name the server's socket");
    if (command.has("--config"))
        return fail_at("--config", Errc::bad_option, "a snapshot has its own configuration", "leave one of them out");
    for (const auto& one : given)
        if (is_of_machine(one.option.twin) && one.option.twin != "/machine-config/track_dirty_pages")
            return fail_at(one.option.name, Errc::bad_option, "the snapshot says that, and it cannot be changed",
                           "leave it out; `inox snapshot info` shows what the machine has");
    asked.clock = TRY(read_clock(clock));
    asked.paused = command.has("--paused");
    return {};
}

/// In place of the machine that the options alone would have made. `option`: that brought it.
Result<void> use_saved(Asked& asked, Config& saved, const char* option) {
    auto& file = asked.file;
    TRY_VOID(use_names(saved, file.config));
    auto named = check_names(saved, file.config, file.allow);
    if (!named && named.error().where == "--from")
        named.error().where = option;
    TRY_VOID(std::move(named));
    const auto given = [&](std::string_view twin) {
        return std::ranges::any_of(asked.given, [&](const Given& one) { return one.option.twin == twin; });
    };
    if (given("/inox/on_panic"))
        saved.machine.end_on_panic = file.config.machine.end_on_panic;
    if (given("/inox/panic_text"))
        saved.machine.panic_text = file.config.machine.panic_text;
    saved.machine.track_dirty_pages = file.config.machine.track_dirty_pages; // the guest sees nothing of it
    file.config = std::move(saved);
    return {};
}

Result<Restored> take_snapshot(Asked& asked) {
    auto files = SnapshotFiles::in(asked.from);
    if (!asked.page_server.empty())
        files.memory.clear();
    auto opened = open_snapshot(files);
    if (!opened)
        opened.error().where = "--from";
    auto saved = TRY(std::move(opened));
    TRY_VOID(use_saved(asked, saved.config, "--from"));
    asked.file.mmds = std::move(saved.mmds);
    return Restored{.parts = std::move(saved.parts),
                    .image = std::move(saved.image),
                    .clock = asked.clock,
                    .page_server = asked.page_server,
                    .memory_id = saved.id};
}

/// The machine that comes: waits for it, and takes all of it but the word that it may run.
Result<Restored> take_moved(Asked& asked) {
    auto stream = move::parse_stream(asked.incoming);
    if (!stream)
        stream.error().where = "--incoming";
    const auto where = TRY(std::move(stream));
    auto connection = TRY(move::accept_one(where));
    asked.move = std::make_shared<MoveIn>(std::move(connection));
    auto taken = [&]() -> Result<Restored> {
        auto guest = TRY(asked.move->greet());
        TRY_VOID(use_saved(asked, guest.config, "--incoming"));
        asked.file.mmds = std::move(guest.mmds);
        bool paused = false;
        auto restored = TRY(take_guest(asked.move, asked.file.config, paused));
        restored.clock = asked.clock;
        asked.paused |= paused;
        return restored;
    }();
    if (!taken)
        asked.move->refuse(taken.error());
    return taken;
}

/// The guest that goes on here. Reads and waits for nothing where the options are wrong already.
Result<Restored> take_restored(Asked& asked) {
    if (asked.file.run.on_reboot == OnReboot::restart)
        return fail_at("--on-reboot", Errc::bad_option,
                       "a restored guest cannot start anew: nothing of its boot is left", "use end or fail");
    return asked.from.empty() ? take_moved(asked) : take_snapshot(asked);
}

/// The options as the command line has them, with the values that they got.
std::optional<int> parse_words(Arguments words, Asked& asked) {
    // Behind "--" stands the guest's command, with options of its own
    const auto end = std::ranges::find(words, std::string_view{command_option.name});
    const Arguments arguments{words.begin(), end};
    Command command{"inox run", "Boots a guest, with its console on this terminal.", run_examples, arguments};
    const auto options = run_options();
    std::vector<std::vector<std::string>> values(options.size(), std::vector<std::string>(1));
    for (std::size_t i = 0; i < options.size(); ++i)
        add_option(command, options[i], values[i]);
    command.add("--config", asked.config_path, "FILE", "configuration file; options override it");
    std::string clock;
    command.add("--from", asked.from, "DIR", "go on with a guest that `inox ctl snapshot` saved into this folder");
    command.add("--incoming", asked.incoming, "STREAM",
                "wait for a guest that `inox ctl ID move STREAM` moves here: unix:PATH, or fd:N for a descriptor");
    command.add(
        "--clock", clock, "WHAT",
        "with --from: continue, the guest's clock goes on as if no time had passed; realtime, kvm-clock jumps to "
        "the present; default continue");
    command.add_switch("--paused", "with --from: the guest waits for `inox ctl resume`");
    command.add("--page-server", asked.page_server, "SOCKET",
                "with --from: this process brings the memory, page by page at the first touch (userfaultfd); "
                "tools/page_server.py is one");
    command.add_switch("--verbose", "log what inox does, too: the same as --log-level Info", 'v');
    if (const auto over = command.parse())
        return *over;

    ParsedConfig parsed{.file = initial_config(Dialect::inox)};
    if (command.has("--config")) {
        if (asked.config_path.empty())
            return report_problem(error_at("--config", Errc::bad_option, "the path is empty", "name a file"));
        parsed = load_config(asked.config_path, Dialect::inox, Transport::pci, Rules::later);
        if (nothing_read(parsed))
            return report_problems(parsed.problems, asked.config_path);
    }
    auto& file = parsed.file;
    auto& given = asked.given;
    for (std::size_t i = 0; i < options.size(); ++i)
        if (command.has(options[i].name))
            given.push_back({options[i], values[i]});
    if (auto good = check_from(command, given, clock, asked); !good)
        return report_problem(std::move(good).error());
    asked.made_id = std::ranges::any_of(
        given, [](const Given& one) { return one.option.twin == "/inox/id" && one.values.front().empty(); });
    if (end != words.end()) {
        if (!file.config.command)
            file.config.command.emplace();
        file.config.command->arguments.assign(end + 1, words.end());
        given.push_back({command_option, {}});
        if (end + 1 == words.end())
            return report_problem(
                error_at("--", Errc::bad_option, "the command is missing", "write it behind --, or leave out --"));
    }
    if (command.has("--verbose") && !command.has("--log-level"))
        file.log.level = log::Level::info;
    auto& problems = parsed.problems;
    apply_options(given, file, problems);
    if (!problems.empty()) {
        add_host_problems(file, given, problems);
        name_options(problems, given);
        return report_problems(problems, asked.config_path);
    }
    asked.file = std::move(file);
    return std::nullopt;
}

} // namespace

Result<RestoredClock> read_clock(const std::string& text) {
    if (!text.empty() && text != "continue" && text != "realtime")
        return fail_at("--clock", Errc::bad_option, in_quotes(text) + " is neither continue nor realtime",
                       "use continue or realtime");
    return text == "realtime" ? RestoredClock::real_time : RestoredClock::goes_on;
}

std::optional<int> read_run(Arguments words, RunAsked& out) {
    Asked asked;
    if (const auto over = parse_words(words, asked))
        return over;
    if (!asked.from.empty())
        if (const auto taken = take_snapshot(asked); !taken)
            return report_problem(taken.error());
    out = std::move(asked);
    return std::nullopt;
}

int run_command(Arguments words, Timeline& timeline) {
    Asked asked;
    if (const auto over = parse_words(words, asked))
        return *over;
    auto& file = asked.file;
    const auto& config_path = asked.config_path;
    const auto& given = asked.given;
    auto given_socket = given_socket::of_service_manager();
    if (!given_socket)
        return report_problem(std::move(given_socket).error());
    if (file.api.socket.empty())
        file.api.socket = *given_socket;
    if (const auto stream = move::parse_stream(asked.incoming))
        descriptors::keep(stream->fd);
    close_inherited(file);
    RunPlan plan;
    if (!asked.from.empty() || !asked.incoming.empty()) {
        auto restored = take_restored(asked);
        if (!restored)
            return report_problem(std::move(restored).error());
        plan.before_start = [saved = std::make_shared<Restored>(std::move(*restored)),
                             paused = asked.paused](Instance& instance) {
            instance.use_snapshot(std::move(*saved), paused ? Machine::Begin::paused : Machine::Begin::running);
        };
    }
    const ConfigFile before = file;
    plan.closing_line = true;
    if (!file.api.id.empty())
        plan.identity.id = file.api.id;
    if (asked.made_id && !file.run.quiet)
        tell("inox: the id of this guest is " + file.api.id + "\n");
    plan.identity.metrics_line = api::firecracker::metrics_line;
    plan.start_failed = [&](Error error) {
        if (asked.move)
            asked.move->refuse(error);
        auto all = all_problems(std::move(error), before, given);
        name_options(all, given);
        return report_problems(all, config_path);
    };
    auto started = check_outputs_apart(file);
    if (started)
        started = use_log(file.log);
    if (started)
        started = confine_process(file, Manner::inox);
    if (!started)
        return plan.start_failed(std::move(started).error());
    timeline.mark(Timeline::Step::config_read);
    plan.companion = with_gdb(file, control_api(file.api));
    if (asked.move)
        plan.on_started = [move = asked.move] { move->tell_running(); };
    return run(std::move(file), timeline, plan);
}

int check_command(Arguments arguments) {
    Command command{"inox check",
                    "Checks a configuration file without starting anything. It shows every problem at once, each with\n"
                    "its place and a hint, also problems of this host: files, sockets, taps, devices.",
                    "Examples:\n  inox check vm.json\n  inox check --firecracker vm_config.json\n\n"
                    "The exit code is 0 if the guest would start, or that of the first problem (docs/exit-codes.md).",
                    arguments};
    std::string path;
    command.add_positional("FILE", path, "the configuration; - is standard input");
    command.add_switch("--json", "print one JSON object");
    command.add_switch("--firecracker", "check it by the rules of Firecracker's flags, for a machine without PCI");
    command.add_switch("--enable-pci", "with --firecracker: for a machine with PCI");
    if (const auto over = command.parse())
        return *over;
    if (path.empty())
        return report_problem(
            make_error(Errc::bad_option, "the configuration file is missing", "try: inox check vm.json"));
    const auto dialect = command.has("--firecracker") ? Dialect::firecracker : Dialect::inox;
    const bool pci = dialect == Dialect::inox || command.has("--enable-pci");
    auto parsed = load_config(path, dialect, pci ? Transport::pci : Transport::mmio);
    check_test(parsed.file, parsed.problems);
    std::ranges::move(closed_descriptors(parsed.file), std::back_inserter(parsed.problems));
    auto beside = api_problems(parsed.file.api);
    std::ranges::move(gdb_problems(parsed.file.run.gdb), std::back_inserter(beside));
    const auto findings = preflight(parsed, std::move(beside));
    if (command.has("--json")) {
        const int printed = print_and_finish(check_json(path, parsed, findings));
        return parsed.problems.empty() ? printed : exit_code(parsed.problems.front().code);
    }
    if (!parsed.problems.empty())
        return report_problems(parsed.problems, path);
    std::string text = path + ": good\n";
    for (auto needs = vfio_needs_text(findings.vfio); !needs.empty(); needs.erase(0, needs.find('\n') + 1))
        text += "  " + needs.substr(0, needs.find('\n') + 1);
    for (const auto& note : findings.notes)
        text += "  note: " + note + "\n";
    for (const auto& key : parsed.ignored)
        text += "  note: the unknown key " + in_quotes(key) + " is ignored\n";
    return print_and_finish(text);
}

int host_command(Arguments arguments) {
    Command command{"inox host",
                    "Shows what this host can do for guests: KVM and its speed, memory, network, VFIO and IOMMU\n"
                    "groups, PASIDs. Each \"no\" says what is missing. It changes nothing.",
                    "Examples:\n  inox host\n  inox host --json | jq .kvm.usable", arguments};
    command.add_switch("--json", "print one JSON object");
    if (const auto over = command.parse())
        return *over;
    const auto report = inspect_host();
    return print_and_finish(command.has("--json") ? host_json(report) : host_text(report));
}

} // namespace inox::cli
