// SPDX-License-Identifier: Apache-2.0
// Firecracker's command line, for the parts inox has; its messages for wrong arguments, and its exit code 153.
#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

#include "vmm/machine/config_options.hpp"
#include "vmm/machine/config_text.hpp"
#include "vmm/machine/run.hpp"
#include "vmm/main_commands.hpp"

namespace vmm::cli {
namespace {

struct Flag {
    std::string_view name; ///< without the dashes
    bool takes_value;
    const char* missing_part{}; ///< why this version refuses it; nullptr: it works
    const char* hint{};
};

constexpr const char* no_api = "the control API is not in this version of inox";
constexpr const char* use_no_api = "start from a file: --no-api --config-file FILE";
constexpr const char* no_snapshots = "snapshots are not in this version of inox";
constexpr const char* no_metadata = "the metadata service is not in this version of inox";
constexpr const char* leave_away = "leave the option away";

constexpr auto flags = std::to_array<Flag>({
    {"config-file", true},
    {"no-api", false},
    {"id", true},
    {"boot-timer", false},
    {"enable-pci", false},
    {"log-path", true},
    {"level", true},
    {"show-level", false},
    {"no-seccomp", false},
    {"start-time-us", true},
    {"start-time-cpu-us", true},
    {"parent-cpu-time-us", true},
    {"version", false},
    {"help", false},
    {"api-sock", true, no_api, use_no_api},
    {"http-api-max-payload-size", true, no_api, use_no_api},
    {"seccomp-filter", true, "system call filters are not in this version of inox", "use --no-seccomp"},
    {"show-log-origin", false, "source positions in log lines are not in this version of inox", leave_away},
    {"module", true, "log filters by module are not in this version of inox", leave_away},
    {"metrics-path", true, "metrics are not in this version of inox", leave_away},
    {"metadata", true, no_metadata, leave_away},
    {"mmds-size-limit", true, no_metadata, leave_away},
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
    for (const std::string_view name : {"start-time-us", "start-time-cpu-us", "parent-cpu-time-us"})
        if (has(name) && !number(name))
            return wrong("'--" + std::string{name} + "' is not a number: " + in_quotes(value(name)));
    if (!has("no-api"))
        return std::unexpected<Error>{Error{Errc::unsupported, no_api, use_no_api, {}, 0}};
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

/// As Firecracker's users expect: virtio-mmio and no PCI, and the kernel is told so.
void switch_pci_off(Config& config) {
    config.machine.transport = Transport::mmio;
    std::string& cmdline = config.boot.cmdline;
    if ((" " + cmdline + " ").find(" pci=off ") == std::string::npos)
        cmdline += cmdline.empty() ? "pci=off" : " pci=off";
}

std::uint64_t microseconds(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

void log_start(const Flags& given) {
    const auto& id = given.value("id");
    log::write(log::Level::info, "Running inox v%s as instance '%s'", INOX_VERSION,
               id.empty() ? "anonymous-instance" : id.c_str());
    if (const auto start = given.number("start-time-us"))
        log::write(log::Level::info, "Process startup took %llu us",
                   static_cast<unsigned long long>(microseconds(CLOCK_MONOTONIC) - *start));
    if (const auto start = given.number("start-time-cpu-us"))
        log::write(log::Level::info, "Process startup took %llu CPU us",
                   static_cast<unsigned long long>(microseconds(CLOCK_PROCESS_CPUTIME_ID) - *start +
                                                   given.number("parent-cpu-time-us").value_or(0)));
}

void print_boot_time(const Timeline& timeline) {
    const auto us = timeline.at(Timeline::Step::user_space_up) / 1000;
    if (us != 0)
        std::fprintf(stderr, "Guest-boot-time = %6llu us %llu ms\n", static_cast<unsigned long long>(us),
                     static_cast<unsigned long long>(us / 1000));
    else
        std::fputs("Guest-boot-time: the guest did not report that its user space is up\n", stderr);
}

constexpr const char* help = R"(inox with Firecracker's flags:

  --no-api --config-file FILE   start the guest this file describes
  --id ID                       name of the instance: 1 to 64 letters, digits and '-'
  --boot-timer                  print how long the guest took until it wrote 123 to port 0xf5
  --enable-pci                  virtio devices on PCI; without it virtio-mmio and pci=off
  --log-path FILE, --level LEVEL, --show-level
  --no-seccomp                  as it is
  --start-time-us N, --start-time-cpu-us N, --parent-cpu-time-us N
  --version, --help

The control API (--api-sock) is not in this version. inox has commands of its own: inox --help
)";

Result<int> start(const Flags& given, Timeline& timeline) {
    if (given.has("id"))
        TRY_VOID(check_id(given.value("id")));
    if (const auto us = given.number("start-time-us"))
        timeline.set_start(*us);
    const auto& path = given.value("config-file");
    auto parsed = load_config(path, Dialect::firecracker);
    if (!parsed.problems.empty())
        return report_problems(parsed.problems, path);
    auto& log = parsed.file.log;
    if (log.path.empty())
        log.path = given.value("log-path");
    if (!log.level && given.has("level")) {
        log.level = parse_log_level(given.value("level"));
        if (!log.level)
            return fail(Errc::bad_option, in_quotes(given.value("level")) + " is no log level",
                        "use Off, Error, Warning, Info, Debug or Trace");
    }
    if (!given.has("enable-pci"))
        switch_pci_off(parsed.file.config);
    TRY_VOID(start_log(log, log::Level::info));
    for (const auto& key : parsed.ignored)
        log::write(log::Level::warning, "%s: the unknown key '%s' is ignored", path.c_str(), key.c_str());
    log_start(given);
    timeline.mark(Timeline::Step::config_read);
    const int code = run(std::move(parsed.file), timeline);
    if (given.has("boot-timer"))
        print_boot_time(timeline);
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
    return result ? *result : report_problem(std::move(result).error());
}

} // namespace vmm::cli
