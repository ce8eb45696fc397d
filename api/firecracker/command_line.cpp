// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/command_line.hpp"

#include <algorithm>
#include <array>

#include "api/firecracker/protocol.hpp"
#include "vmm/base/log.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::api::firecracker {
namespace {

struct Flag {
    std::string_view name; ///< without the dashes
    bool takes_value;
    bool repeated{false};
};

constexpr auto flags = std::to_array<Flag>({
    {"api-sock", true},
    {"api-group", true},
    {"api-connections", true},
    {"keep-fds", true},
    {"allow", true, true},
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
    {"snapshot-version", false},
    {"describe-snapshot", true},
});

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
    return wrong_arguments("Found argument " + in_quotes(name) +
                               " which wasn't expected, or isn't valid in this context.",
                           std::move(hint));
}

} // namespace

std::unexpected<Error> wrong_arguments(const std::string& text, std::string hint) {
    return fail(Errc::bad_option, "Arguments parsing error: " + text,
                hint.empty() ? "For more information try --help." : std::move(hint));
}

const std::string& Flags::value(std::string_view name) const {
    static const std::string none;
    const auto found = given_.find(name);
    return found == given_.end() ? none : found->second;
}

const std::vector<std::string>& Flags::values(std::string_view name) const {
    static const std::vector<std::string> none;
    const auto found = lists_.find(name);
    return found == lists_.end() ? none : found->second;
}

std::optional<std::uint64_t> Flags::number(std::string_view name) const { return parse_number(value(name)); }

Result<void> Flags::parse(std::span<const char* const> arguments) {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string argument = arguments[i];
        if (!argument.starts_with("--"))
            return unexpected_argument(argument);
        const std::string name = argument.substr(2);
        const auto* flag = std::ranges::find(flags, name, &Flag::name);
        if (flag == flags.end())
            return unexpected_argument(name);
        if (has(name) && !flag->repeated)
            return wrong_arguments("The argument " + in_quotes(name) + " was provided more than once.");
        auto& value = given_[name];
        if (!flag->takes_value)
            continue;
        if (i + 1 == arguments.size() || std::string_view{arguments[i + 1]}.starts_with("--"))
            return wrong_arguments("The argument " + in_quotes(name) + " requires a value, but none was supplied.");
        value = arguments[++i];
        if (flag->repeated)
            lists_[name].push_back(value);
    }
    if (has("help") || has("version"))
        return {};
    return check_rules();
}

Result<void> Flags::check_rules() const {
    if (has("no-seccomp") && has("seccomp-filter"))
        return wrong_arguments("Argument 'no-seccomp' cannot be used together with argument 'seccomp-filter'.");
    if (has("no-api") && !has("config-file"))
        return wrong_arguments("Argument 'config-file' required, but not found.");
    for (const std::string_view name : {"start-time-us", "start-time-cpu-us", "parent-cpu-time-us", "mmds-size-limit",
                                        "http-api-max-payload-size", "api-connections"})
        if (has(name) && !number(name))
            return wrong_arguments("'--" + std::string{name} + "' is not a number: " + in_quotes(value(name)));
    if (has("api-sock") && value("api-sock").empty())
        return wrong_arguments("The argument 'api-sock' requires a value, but none was supplied.",
                               "name a file, or say --no-api");
    if (has("metadata") && value("metadata").empty())
        return wrong_arguments("The argument 'metadata' requires a value, but none was supplied.");
    for (const std::string name : {"api-sock", "api-group", "api-connections", "keep-fds"})
        if (has("no-api") && has(name))
            return wrong_arguments("Argument 'no-api' cannot be used together with argument '" + name + "'.");
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

const char* const help = R"(inox with Firecracker's flags:

  --api-sock PATH               the control API's socket, or fd:N; default: LISTEN_FDS, or /run/firecracker.socket
  --config-file FILE            start the guest that this file describes; without it, the API starts a guest
  --no-api                      serve no API; needs --config-file
  --id ID                       name of the instance: 1 to 64 letters, digits and '-'
  --enable-pci                  put virtio devices on PCI; without it, virtio-mmio and pci=off
  --boot-timer                  log how long the guest took until it wrote 123 to port 0xf5 or address 0xc0000000
  --log-path FILE, --level LEVEL, --module MODULE, --show-level, --show-log-origin
  --metrics-path FILE           write a line of metrics at the start, once a minute and at the end
  --metadata FILE, --mmds-size-limit BYTES
  --http-api-max-payload-size BYTES
  --no-seccomp                  no system call filters
  --seccomp-filter FILE         accepted, but not read: inox has its own filters (docs/confinement.md)
  --start-time-us N, --start-time-cpu-us N, --parent-cpu-time-us N
  --snapshot-version            print the version of the snapshots that this inox writes
  --describe-snapshot FILE      print the version of this snapshot's state file
  --version, --help
and of inox:
  --api-group GROUP             members of this group may use the socket too
  --api-connections N           maximum number of clients at once; default 64
  --keep-fds N[,N...]           descriptors that the API will name; all other inherited ones are closed
  --allow PATH[:ro]             a file or folder that later requests may name, in place of every one (repeatable)

inox has commands of its own: inox --help
)";

int exit_code_of(const Error& error) {
    constexpr int bad_configuration = 152;
    if (error.where == level_flag)
        return bad_configuration;
    return error.code == Errc::bad_option ? exit_code(error.code) : generic_error;
}

void log_start(const Flags& given) {
    const auto& id = given.value("id");
    log::write(log::Level::info, "Running Firecracker v%s: inox v%s as instance '%s'", version, INOX_VERSION,
               id.empty() ? "anonymous-instance" : id.c_str());
    if (const auto start = given.number("start-time-us"))
        log::write(log::Level::info, "Process startup took %llu us",
                   static_cast<unsigned long long>(clock_ns(CLOCK_MONOTONIC) / 1000 - *start));
    if (const auto start = given.number("start-time-cpu-us"))
        log::write(log::Level::info, "Process startup took %llu CPU us",
                   static_cast<unsigned long long>(clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000 - *start +
                                                   given.number("parent-cpu-time-us").value_or(0)));
}

void log_started() {
    log::write(log::Level::info, "Successfully started microvm that was configured from one single json");
}

void log_boot_time(const Timeline& timeline) {
    const auto us = timeline.at(Timeline::Step::user_space_up) / 1000;
    const auto cpu_us = clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000;
    log::write(log::Level::info, "Guest-boot-time = %6llu us %llu ms, %6llu CPU us %llu CPU ms",
               static_cast<unsigned long long>(us), static_cast<unsigned long long>(us / 1000),
               static_cast<unsigned long long>(cpu_us), static_cast<unsigned long long>(cpu_us / 1000));
}

void log_exit(int code) {
    log::write(log::Level::info, "Firecracker exiting %s. exit_code=%d", code == 0 ? "successfully" : "with error",
               code);
}

} // namespace inox::api::firecracker
