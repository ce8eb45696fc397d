// SPDX-License-Identifier: Apache-2.0
// Firecracker's command line, for the parts inox has; its messages for wrong arguments, and its exit code 153.
#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "api/routes.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/instance/logging.hpp"
#include "vmm/instance/output_files.hpp"
#include "vmm/instance/run.hpp"
#include "vmm/main_commands.hpp"

namespace inox::cli {
namespace {

struct Flag {
    std::string_view name; ///< without the dashes
    bool takes_value;
    const char* missing_part{}; ///< why this version refuses it; nullptr: it works
    const char* hint{};
};

constexpr const char* no_snapshots = "snapshots are not in this version of inox";
constexpr const char* leave_away = "leave out the option";

constexpr auto flags = std::to_array<Flag>({
    {"api-sock", true},
    {"api-group", true},
    {"api-connections", true},
    {"keep-fds", true},
    {"config-file", true},
    {"no-api", false},
    {"id", true},
    {"boot-timer", false},
    {"enable-pci", false},
    {"log-path", true},
    {"level", true},
    {"module", true},
    {"show-level", false},
    {"show-log-origin", false},
    {"metrics-path", true},
    {"metadata", true},
    {"mmds-size-limit", true},
    {"http-api-max-payload-size", true},
    {"no-seccomp", false},
    {"seccomp-filter", true},
    {"start-time-us", true},
    {"start-time-cpu-us", true},
    {"parent-cpu-time-us", true},
    {"version", false},
    {"help", false},
    {"snapshot-version", false, no_snapshots, leave_away},
    {"describe-snapshot", true, no_snapshots, leave_away},
});

class Flags {
public:
    [[nodiscard]] bool has(std::string_view name) const { return given_[index(name)]; }
    [[nodiscard]] const std::string& value(std::string_view name) const { return values_[index(name)]; }
    /// nullopt when absent; checked by parse().
    [[nodiscard]] std::optional<std::uint64_t> number(std::string_view name) const { return parse_number(value(name)); }

    Result<void> parse(Arguments arguments);

private:
    static std::size_t index(std::string_view name) {
        return static_cast<std::size_t>(std::ranges::find(flags, name, &Flag::name) - flags.begin());
    }
    [[nodiscard]] Result<void> check_rules() const;

    std::array<bool, flags.size()> given_{};
    std::array<std::string, flags.size()> values_{};
};

/// Firecracker's text for wrong arguments; clients match on it.
std::unexpected<Error> wrong(const std::string& text, std::string hint = {}) {
    return fail(Errc::bad_option, "Arguments parsing error: " + text,
                hint.empty() ? "For more information try --help." : std::move(hint));
}

std::unexpected<Error> unexpected_argument(const std::string& name) {
    std::vector<std::string_view> names;
    for (const auto& flag : flags)
        names.push_back(flag.name);
    const auto near = nearest(name, names);
    std::string hint;
    if (std::ranges::any_of(run_options(), [&](const auto& option) { return option.name == "--" + name; }))
        hint = "it is an option of a command: inox run --" + name;
    else if (!near.empty())
        hint = "did you mean '--" + std::string{near} + "'?";
    return wrong("Found argument " + in_quotes(name) + " which wasn't expected, or isn't valid in this context.",
                 std::move(hint));
}

Result<void> Flags::parse(Arguments arguments) {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string argument = arguments[i];
        if (!argument.starts_with("--"))
            return unexpected_argument(argument);
        const std::string name = argument.substr(2);
        const auto at = index(name);
        if (at == flags.size())
            return unexpected_argument(name);
        if (given_[at])
            return wrong("The argument " + in_quotes(name) + " was provided more than once.");
        given_[at] = true;
        if (!flags[at].takes_value)
            continue;
        if (i + 1 == arguments.size() || std::string_view{arguments[i + 1]}.starts_with("--"))
            return wrong("The argument " + in_quotes(name) + " requires a value, but none was supplied.");
        values_[at] = arguments[++i];
    }
    if (has("help") || has("version"))
        return {};
    return check_rules();
}

Result<void> Flags::check_rules() const {
    if (has("no-seccomp") && has("seccomp-filter"))
        return wrong("Argument 'no-seccomp' cannot be used together with argument 'seccomp-filter'.");
    if (has("no-api") && !has("config-file"))
        return wrong("Argument 'config-file' required, but not found.");
    for (std::size_t i = 0; i < flags.size(); ++i)
        if (given_[i] && flags[i].missing_part != nullptr)
            return std::unexpected<Error>{
                Error{Errc::unsupported, flags[i].missing_part, flags[i].hint, "--" + std::string{flags[i].name}, 0}};
    for (const std::string_view name : {"start-time-us", "start-time-cpu-us", "parent-cpu-time-us", "mmds-size-limit",
                                        "http-api-max-payload-size", "api-connections"})
        if (has(name) && !number(name))
            return wrong("'--" + std::string{name} + "' is not a number: " + in_quotes(value(name)));
    if (has("api-sock") && value("api-sock").empty())
        return wrong("The argument 'api-sock' requires a value, but none was supplied.",
                     "name a file, or say --no-api");
    if (has("metadata") && value("metadata").empty())
        return wrong("The argument 'metadata' requires a value, but none was supplied.");
    for (const std::string name : {"api-sock", "api-group", "api-connections", "keep-fds"})
        if (has("no-api") && has(name))
            return wrong("Argument 'no-api' cannot be used together with argument '" + name + "'.");
    return {};
}

Result<void> check_id(const std::string& id) {
    constexpr std::size_t longest = 64;
    if (id.empty() || id.size() > longest)
        return fail(Errc::bad_option,
                    format("Invalid instance ID: Invalid len (%zu); the length must be between 1 and 64.", id.size()),
                    "use 1 to 64 letters, digits and '-'");
    for (std::size_t i = 0; i < id.size(); ++i) {
        const char c = id[i];
        if ((c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-')
            return fail(Errc::bad_option,
                        format("Invalid instance ID: Invalid char (%s) at position %zu", printable({&c, 1}).c_str(), i),
                        "use 1 to 64 letters, digits and '-'");
    }
    return {};
}

void log_start(const Flags& given) {
    const auto& id = given.value("id");
    // Firecracker's first words, which log readers look for.
    log::write(log::Level::info, "Running Firecracker v%s: inox v%s as instance '%s'", api::firecracker_version,
               INOX_VERSION, id.empty() ? "anonymous-instance" : id.c_str());
    if (const auto start = given.number("start-time-us"))
        log::write(log::Level::info, "Process startup took %llu us",
                   static_cast<unsigned long long>(clock_ns(CLOCK_MONOTONIC) / 1000 - *start));
    if (const auto start = given.number("start-time-cpu-us"))
        log::write(log::Level::info, "Process startup took %llu CPU us",
                   static_cast<unsigned long long>(clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000 - *start +
                                                   given.number("parent-cpu-time-us").value_or(0)));
}

constexpr const char* help = R"(inox with Firecracker's flags:

  --api-sock PATH               the control API's socket; default /run/firecracker.socket
  --config-file FILE            start the guest that this file describes; without it, the API starts a guest
  --no-api                      serve no API; needs --config-file
  --id ID                       name of the instance: 1 to 64 letters, digits and '-'
  --enable-pci                  put virtio devices on PCI; without it, virtio-mmio and pci=off
  --boot-timer                  log how long the guest took until it wrote 123 to port 0xf5 or address 0xc0000000
  --log-path FILE, --level LEVEL, --module MODULE, --show-level, --show-log-origin
  --metrics-path FILE           write a line of metrics at the start, once a minute and at the end
  --metadata FILE, --mmds-size-limit BYTES
  --http-api-max-payload-size BYTES
  --no-seccomp, --seccomp-filter FILE   accepted, but inox installs no system call filter
  --start-time-us N, --start-time-cpu-us N, --parent-cpu-time-us N
  --version, --help
and of inox:
  --api-group GROUP             members of this group may use the socket too
  --api-connections N           maximum number of clients at once; default 64
  --keep-fds N[,N...]           descriptors that the API will name; all other inherited ones are closed

inox has commands of its own: inox --help
)";

// Firecracker's exit codes, beside 153 for wrong arguments.
constexpr int generic_error = 1;
constexpr int bad_configuration = 152;

constexpr const char* level_flag = "--level";

constexpr std::size_t largest_metadata = 64 * MiB; ///< of a file; --mmds-size-limit is what counts

int failure_code(const Error& error) {
    if (error.where == level_flag)
        return bad_configuration;
    return error.code == Errc::bad_option ? exit_code(error.code) : generic_error;
}

/// Names the flag, or the file and its key, that the value came from. Returns the exit code.
int report_failure(const Flags& given, Error error) {
    static constexpr std::pair<std::string_view, std::string_view> twins[] = {
        {"/inox/api_sock", "api-sock"},
        {"/inox/api_group", "api-group"},
        {"/inox/keep_fds", "keep-fds"},
        {"/logger/log_path", "log-path"},
        {"/metrics/metrics_path", "metrics-path"}};
    for (const auto& [pointer, flag] : twins)
        if (error.where == pointer && (given.has(flag) || flag == "api-sock"))
            error.where = "--" + std::string{flag};
    const int code = failure_code(error);
    static_cast<void>(report_problems({&error, 1}, given.value("config-file")));
    return code;
}

constexpr const char* default_socket = "/run/firecracker.socket";

/// Flags over the file, as Firecracker does it.
Result<void> apply(const Flags& given, ConfigFile& file) {
    file.run.console_overflow = ConsoleOverflow::drop;
    auto& log = file.log;
    if (log.path.empty())
        log.path = given.value("log-path");
    if (!log.level && given.has("level")) {
        log.level = parse_log_level(given.value("level"));
        if (!log.level)
            return std::unexpected<Error>{Error{Errc::bad_option, in_quotes(given.value("level")) + " is no log level",
                                                "use Off, Error, Warning, Info, Debug or Trace", level_flag, 0}};
    }
    if (!log.show_level && given.has("show-level"))
        log.show_level = true;
    if (!log.show_origin && given.has("show-log-origin"))
        log.show_origin = true;
    if (log.module.empty())
        log.module = given.value("module");
    if (given.has("metrics-path"))
        file.metrics = MetricsConfig{given.value("metrics-path")};
    if (given.has("keep-fds")) {
        file.run.keep_fds = descriptors::parse_list(given.value("keep-fds"));
        if (file.run.keep_fds.empty())
            return wrong("'--keep-fds' is no list of descriptors: " + in_quotes(given.value("keep-fds")));
    }
    if (given.has("no-api")) {
        file.api = {};
        return {};
    }
    if (given.has("api-sock") || file.api.socket.empty())
        file.api.socket = given.has("api-sock") ? given.value("api-sock") : default_socket;
    if (given.has("api-group"))
        file.api.group = given.value("api-group");
    if (const auto count = given.number("api-connections")) {
        if (*count == 0 || *count > ApiConfig::most_connections)
            return wrong("'--api-connections' is outside 1 to 4096: " + in_quotes(given.value("api-connections")));
        file.api.connections = static_cast<unsigned>(*count);
    }
    return {};
}

/// The text of --metadata; empty without it. A named pipe is waited for, so it is read while signals still end inox.
Result<std::string> read_metadata(const Flags& given) {
    if (!given.has("metadata"))
        return std::string{};
    auto text = load_text(given.value("metadata"), largest_metadata);
    if (!text)
        text.error().where = "--metadata";
    return text;
}

/// The API and the metadata, before the guest starts.
RunPlan plan_for(const Flags& given, const ApiConfig& api, std::string metadata) {
    RunPlan plan;
    plan.start_now = given.has("config-file");
    plan.identity = {given.has("id") ? given.value("id") : "anonymous-instance", true, given.has("boot-timer")};
    plan.start_failed = [&given](Error error) { return report_failure(given, std::move(error)); };
    plan.on_started = [] {
        log::write(log::Level::info, "Successfully started microvm that was configured from one single json");
    };
    const auto body = static_cast<std::size_t>(given.number("http-api-max-payload-size").value_or(51200));
    plan.companion = [serve = control_api(api, body), limit = given.number("mmds-size-limit"),
                      metadata = std::move(metadata),
                      body](EventLoop& loop, Instance& instance) -> Result<Registration> {
        if (const auto& metrics = instance.file().metrics)
            TRY_VOID(instance.use_metrics(MetricsConfig{*metrics}));
        instance.mmds().set_limit(static_cast<std::size_t>(limit.value_or(body)));
        if (auto stored = metadata.empty() ? Result<void>{} : instance.mmds().put(metadata); !stored) {
            stored.error().where = "--metadata";
            return std::unexpected<Error>{std::move(stored).error()};
        }
        if (serve)
            return serve(loop, instance);
        return Registration{};
    };
    return plan;
}

Result<int> start(const Flags& given, Timeline& timeline) {
    if (given.has("id"))
        TRY_VOID(check_id(given.value("id")));
    if (const auto us = given.number("start-time-us"))
        timeline.set_start(*us);
    const auto& path = given.value("config-file");
    ParsedConfig parsed;
    const auto transport = given.has("enable-pci") ? Transport::pci : Transport::mmio;
    parsed.file.config.machine.transport = transport;
    if (given.has("config-file"))
        parsed = load_config(path, Dialect::firecracker, transport);
    if (!parsed.problems.empty()) {
        static_cast<void>(report_problems(parsed.problems, path));
        return generic_error;
    }
    TRY_VOID(apply(given, parsed.file));
    if (auto closed = closed_descriptors(parsed.file.run); !closed.empty())
        return std::unexpected<Error>{std::move(closed.front())};
    const RunPlan plan = plan_for(given, parsed.file.api, TRY(read_metadata(given)));
    close_inherited(parsed.file);
    TRY_VOID(check_outputs_apart(parsed.file));
    TRY_VOID(use_log(parsed.file.log, LogShape::firecracker, plan.identity.id));
    for (const auto& key : parsed.ignored)
        log::write(log::Level::warning, "%s: the unknown key '%s' is ignored", path.c_str(), key.c_str());
    if (given.has("seccomp-filter"))
        log::write(log::Level::warning, "--seccomp-filter is ignored: inox installs no system call filter");
    log_start(given);
    timeline.mark(Timeline::Step::config_read);
    const int code = run(std::move(parsed.file), timeline, plan);
    if (given.has("boot-timer") && timeline.at(Timeline::Step::user_space_up) == 0)
        log::write(log::Level::warning, "Guest-boot-time: the guest did not report that its user space is up");
    log::write(log::Level::info, "Firecracker exiting %s. exit_code=%d", code == 0 ? "successfully" : "with error",
               code);
    return code;
}

} // namespace

int firecracker_command(Arguments arguments, Timeline& timeline) {
    Flags given;
    if (auto parsed = given.parse(arguments); !parsed)
        return report_problem(std::move(parsed).error());
    if (given.has("help"))
        return print_and_finish(help);
    if (given.has("version"))
        return print_and_finish("inox " INOX_VERSION "\n");
    auto result = start(given, timeline);
    return result ? *result : report_failure(given, std::move(result).error());
}

} // namespace inox::cli
