// SPDX-License-Identifier: Apache-2.0
// Firecracker's command line, as far as inox has its parts.
#include <cerrno>
#include <fcntl.h>
#include <utility>

#include "api/firecracker/command_line.hpp"
#include "api/firecracker/log_and_metrics.hpp"
#include "api/firecracker/protocol.hpp"
#include "api/firecracker/words.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/base/outside/given_socket.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/instance/logging.hpp"
#include "vmm/instance/output_files.hpp"
#include "vmm/instance/run.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/snapshot/parts.hpp"
#include "vmm/snapshot/state_file.hpp"

namespace inox::cli {

using namespace api::firecracker;

namespace {

constexpr std::size_t largest_metadata = 64 * MiB; ///< of a file; --mmds-size-limit is the limit that counts

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
    const int code = exit_code_of(error);
    static_cast<void>(report_problems({&error, 1}, given.value("config-file")));
    return code;
}

/// Callers that start a program named firecracker ask it whether it is new enough, and compare the second word.
std::string own_version() {
    if (std::string_view{program_invocation_short_name} == "firecracker")
        return std::string{"Firecracker v"} + version + "\n";
    return "inox " INOX_VERSION "\n";
}

std::string snapshot_version(std::uint32_t format) { return "v" + std::to_string(format) + ".0.0\n"; }

/// Of the state file at `path`, which has the one format that there is.
Result<std::string> describe_snapshot(const std::string& path) {
    const auto file = open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, Errc::snapshot_missing);
    if (!file)
        return fail(Errc::snapshot_missing, "Unable to open snapshot state file: " + os_error(file.error()),
                    "name the state file of a snapshot");
    if (auto read = snapshot::read_state(file->get(), path.c_str()); !read)
        return fail(Errc::snapshot_invalid, "Invalid data format version of snapshot file: " + read.error().what,
                    read.error().hint);
    return snapshot_version(snapshot::format);
}

constexpr const char* default_socket = "/run/firecracker.socket";

/// Adds the flags to the file's values, as Firecracker does: the file wins for the log, the flags for all else.
Result<void> apply(const Flags& given, ConfigFile& file) {
    file.run.console_overflow = ConsoleOverflow::drop;
    if (given.has("no-seccomp"))
        file.run.seccomp = Seccomp::off;
    auto& log = file.log;
    if (log.path.empty())
        log.path = given.value("log-path");
    if (!log.level && given.has("level")) {
        log.level = parse_log_level(given.value("level"));
        if (!log.level)
            return fail_at(level_flag, Errc::bad_option, in_quotes(given.value("level")) + " is not a log level",
                           "use Off, Error, Warning, Info, Debug or Trace");
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
            return wrong_arguments("'--keep-fds' is not a list of descriptors: " + in_quotes(given.value("keep-fds")));
    }
    for (const auto& text : given.values("allow")) {
        auto allowed = parse_allowed_path(text);
        if (!allowed)
            return wrong_arguments("'--allow' names no path: " + in_quotes(text));
        file.allow.push_back(std::move(*allowed));
    }
    if (given.has("no-api")) {
        file.api = {};
        return {};
    }
    if (file.allow.empty()) // as there: a client may name what the process can open, which a jail limits
        file.allow.push_back({.path = "/"});
    const auto handed_over = TRY(given_socket::of_service_manager());
    if (given.has("api-sock"))
        file.api.socket = given.value("api-sock");
    else if (file.api.socket.empty())
        file.api.socket = handed_over.empty() ? default_socket : handed_over;
    if (given.has("api-group")) {
        file.api.group = given.value("api-group");
        if (file.api.group.empty())
            return wrong_arguments("'--api-group' names no group");
    }
    if (const auto count = given.number("api-connections")) {
        if (*count == 0 || *count > ApiConfig::most_connections)
            return wrong_arguments("'--api-connections' is outside 1 to 4096: " +
                                   in_quotes(given.value("api-connections")));
        file.api.connections = static_cast<unsigned>(*count);
    }
    return {};
}

/// The text of --metadata; empty without it. This may wait for a named pipe, so it runs while signals still end inox.
Result<std::string> read_metadata(const Flags& given) {
    if (!given.has("metadata"))
        return std::string{};
    auto text = load_text(given.value("metadata"), largest_metadata);
    if (!text)
        text.error().where = "--metadata";
    return text;
}

/// The API and the metadata, before the guest starts.
RunPlan plan_for(const Flags& given, const ApiConfig& api, std::string metadata, const Timeline& timeline) {
    RunPlan plan;
    plan.start_now = given.has("config-file");
    plan.identity = {given.has("id") ? given.value("id") : "anonymous-instance", true};
    plan.start_failed = [&given](Error error) { return report_failure(given, std::move(error)); };
    plan.identity.metrics_line = metrics_line;
    plan.on_started = log_started;
    if (given.has("boot-timer"))
        plan.on_user_space_up = [&timeline] { log_boot_time(timeline); };
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
    if (auto closed = closed_descriptors(parsed.file); !closed.empty())
        return std::unexpected<Error>{std::move(closed.front())};
    const RunPlan plan = plan_for(given, parsed.file.api, TRY(read_metadata(given)), timeline);
    close_inherited(parsed.file);
    TRY_VOID(check_outputs_apart(parsed.file));
    TRY_VOID(use_log(parsed.file.log, log_shape, plan.identity.id));
    for (const auto& key : parsed.ignored)
        log::write(log::Level::warning, "%s: the unknown key '%s' is ignored", path.c_str(), key.c_str());
    if (given.has("seccomp-filter"))
        log::write(log::Level::warning, "--seccomp-filter is ignored: inox %s its own filters",
                   parsed.file.run.seccomp == Seccomp::off ? "has" : "uses");
    log_start(given);
    TRY_VOID(confine_process(parsed.file, Manner::firecracker));
    timeline.mark(Timeline::Step::config_read);
    const int code = run(std::move(parsed.file), timeline, plan);
    if (given.has("boot-timer") && timeline.at(Timeline::Step::user_space_up) == 0)
        log::write(log::Level::warning, "Guest-boot-time: the guest did not report that its user space is up");
    log_exit(code);
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
        return print_and_finish(own_version());
    if (given.has("snapshot-version"))
        return print_and_finish(snapshot_version(snapshot::format));
    if (given.has("describe-snapshot")) {
        const auto found = describe_snapshot(given.value("describe-snapshot"));
        return found ? print_and_finish(*found) : report_failure(given, found.error());
    }
    auto result = start(given, timeline);
    return result ? *result : report_failure(given, std::move(result).error());
}

} // namespace inox::cli
