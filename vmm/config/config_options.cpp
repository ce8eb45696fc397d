// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_options.hpp"

#include <algorithm>

#include "vmm/base/descriptors.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

std::string no_size(std::string_view text, std::uint64_t least, std::uint64_t most) {
    return in_quotes(text) + " is not a size from " + size_text(least) + " to " + size_text(most);
}

/// For options that are a path: `place` says where it goes.
template <std::string& (*place)(ConfigFile&)>
Result<void> set_path(const CommandOption& self, const std::string& text, ConfigFile& file) {
    if (text.empty())
        return refuse_option(self, "the path is empty", "name a file");
    place(file) = text;
    return {};
}

std::string& kernel(ConfigFile& file) { return file.config.boot.kernel; }
std::string& initrd(ConfigFile& file) { return file.config.boot.initrd; }
std::string& serial_log(ConfigFile& file) { return file.run.serial_log; }
std::string& result_path(ConfigFile& file) { return file.run.result; }
std::string& exits_path(ConfigFile& file) { return file.run.exits; }
std::string& symbols(ConfigFile& file) { return file.run.symbols; }
std::string& dump_on_panic(ConfigFile& file) { return file.run.dump_on_panic; }
std::string& log_path(ConfigFile& file) { return file.log.path; }

Result<void> set_cmdline(const CommandOption& /*self*/, const std::string& text, ConfigFile& file) {
    file.config.boot.cmdline = text;
    return {};
}

Result<void> set_cpus(const CommandOption& self, const std::string& text, ConfigFile& file) {
    const auto cpus = parse_number(text);
    if (!cpus)
        return refuse_option(self,
                             in_quotes(text) + " is not a number of CPUs from 1 to " +
                                 std::to_string(file.config.machine.most_cpus),
                             "write a number such as 4");
    if (auto problem = check_cpus(*cpus, file.config.machine.most_cpus, false)) {
        problem->where = self.name;
        return std::unexpected<Error>{std::move(*problem)};
    }
    file.config.machine.cpus = static_cast<unsigned>(*cpus);
    return {};
}

Result<void> set_memory(const CommandOption& self, const std::string& text, ConfigFile& file) {
    const auto bytes = parse_size(text);
    if (!bytes)
        return refuse_option(self, no_size(text, layout::min_ram, layout::max_ram),
                             "write a whole number, such as 512M or 4G; a plain number is MiB");
    file.config.machine.memory = *bytes;
    return {};
}

template <std::optional<std::uint64_t> PciWindows::*window>
Result<void> set_window(const CommandOption& self, const std::string& text, ConfigFile& file) {
    const auto bytes = parse_size(text);
    if (!bytes)
        return refuse_option(
            self,
            no_size(text, PciWindows::unit, window == &PciWindows::bars_32 ? PciWindows::most_32 : PciWindows::most_64),
            "write a whole number, such as 512M or 1G; a plain number is MiB");
    PciWindows one;
    one.*window = bytes;
    if (auto problem = check_windows(one)) {
        problem->where = self.name;
        return std::unexpected<Error>{std::move(*problem)};
    }
    file.config.machine.windows.*window = bytes;
    return {};
}

Result<void> set_huge_pages(const CommandOption& self, const std::string& text, ConfigFile& file) {
    static constexpr std::string_view names[] = {"none", "transparent", "2M"};
    const auto found = std::ranges::find_if(names, [&](std::string_view name) {
        return std::ranges::equal(name, text, [](char a, char b) { return (a | 0x20) == (b | 0x20); });
    });
    if (found == std::end(names))
        return refuse_option(self, in_quotes(text) + " is not a kind of huge pages", "use none, transparent or 2M");
    file.config.machine.huge_pages = static_cast<HugePages>(found - std::begin(names));
    return {};
}

Result<void> set_track_dirty_pages(const CommandOption& /*self*/, const std::string& /*text*/, ConfigFile& file) {
    file.config.machine.track_dirty_pages = true;
    return {};
}

Result<void> set_smt(const CommandOption& /*self*/, const std::string& /*text*/, ConfigFile& file) {
    file.config.machine.smt = true;
    return {};
}

template <std::optional<std::chrono::milliseconds> RunOptions::*time>
Result<void> set_time(const CommandOption& self, const std::string& text, ConfigFile& file) {
    file.run.*time = parse_duration(text);
    if (!(file.run.*time))
        return refuse_option(self, no_duration(text), duration_rule);
    return {};
}

Result<void> check_expression(const CommandOption& self, const std::string& text, const char* if_empty) {
    if (text.empty())
        return refuse_option(self, "the expression is empty", if_empty);
    if (const auto why = regex_problem(text))
        return refuse_option(
            self, in_quotes(text) + " is not a regular expression: " + *why,
            "it is a POSIX extended expression, as for grep -E: put a backslash before ( ) [ ] { } . * + ? |");
    return {};
}

Result<void> set_expect(const CommandOption& self, const std::string& text, ConfigFile& file) {
    TRY_VOID(check_expression(self, text, "write a part of the expected text"));
    file.run.expect = text;
    return {};
}

Result<void> set_fail_on(const CommandOption& self, const std::string& text, ConfigFile& file) {
    TRY_VOID(check_expression(self, text, "write a part of a line, or the word kernel"));
    file.run.fail_on.push_back(text);
    return {};
}

Result<void> set_on_panic(const CommandOption& self, const std::string& text, ConfigFile& file) {
    const auto found = std::ranges::find(panic_words, text);
    if (found == std::end(panic_words))
        return refuse_option(self, in_quotes(text) + " is neither report nor end", "use report or end");
    file.config.machine.end_on_panic = found != std::begin(panic_words);
    return {};
}

Result<void> set_panic_text(const CommandOption& self, const std::string& text, ConfigFile& file) {
    const auto on = parse_switch(text);
    if (!on)
        return refuse_option(self, in_quotes(text) + " is neither on nor off", "use on or off");
    file.config.machine.panic_text = *on;
    return {};
}

/// Where `text` stands among the words of an enumeration; `problem` is what is said of others.
template <class E> Result<E> one_of(const CommandOption& self, const std::string& text,
                                    std::span<const std::string_view> words, const char* problem, const char* hint) {
    const auto found = std::ranges::find(words, text);
    if (found == words.end())
        return refuse_option(self, in_quotes(text) + problem, hint);
    return static_cast<E>(found - words.begin());
}

Result<void> set_on_reboot(const CommandOption& self, const std::string& text, ConfigFile& file) {
    file.run.on_reboot = TRY(
        one_of<OnReboot>(self, text, reboot_words, " is not one of end, fail and restart", "use end, fail or restart"));
    return {};
}

Result<void> set_console_overflow(const CommandOption& self, const std::string& text, ConfigFile& file) {
    file.run.console_overflow =
        TRY(one_of<ConsoleOverflow>(self, text, overflow_words, " is neither wait nor drop", "use wait or drop"));
    return {};
}

Result<void> set_seccomp(const CommandOption& self, const std::string& text, ConfigFile& file) {
    file.run.seccomp =
        TRY(one_of<Seccomp>(self, text, seccomp_words, " is not one of on, log and off", "use on, log or off"));
    return {};
}

Result<void> set_keep_fds(const CommandOption& self, const std::string& text, ConfigFile& file) {
    file.run.keep_fds = descriptors::parse_list(text);
    if (file.run.keep_fds.empty())
        return refuse_option(self, in_quotes(text) + " is not a list of descriptors",
                             "write numbers from 3 on, such as 5 or 5,6");
    return {};
}

Result<void> set_boot_timeline(const CommandOption& self, const std::string& text, ConfigFile& file) {
    if (!text.ends_with(".json") && !text.ends_with(".svg"))
        return refuse_option(self, in_quotes(text) + " ends neither in .json nor in .svg",
                             "the ending chooses the format");
    file.run.boot_timeline = text;
    return {};
}

Result<void> set_gdb(const CommandOption& self, const std::string& text, ConfigFile& file) {
    auto parsed = parse_gdb(text);
    if (!parsed)
        return refuse_option(self, std::move(parsed.error().what), std::move(parsed.error().hint));
    file.run.gdb = std::move(*parsed);
    return {};
}

Result<void> set_log_level(const CommandOption& self, const std::string& text, ConfigFile& file) {
    file.log.level = parse_log_level(text);
    if (!file.log.level)
        return refuse_option(self, in_quotes(text) + " is not a log level",
                             "use Off, Error, Warning, Info, Debug or Trace");
    return {};
}

Result<void> set_quiet(const CommandOption& /*self*/, const std::string& /*text*/, ConfigFile& file) {
    file.run.quiet = true;
    return {};
}

std::string& metrics_path(ConfigFile& file) { return file.metrics ? file.metrics->path : file.metrics.emplace().path; }
std::string& api_socket(ConfigFile& file) { return file.api.socket; }

Result<void> set_id(const CommandOption& self, const std::string& text, ConfigFile& file) {
    if (!text.empty() && !is_id(text))
        return refuse_option(self, in_quotes(text) + " is not an id", id_rule);
    file.api.id = text.empty() ? new_id() : text;
    return {};
}

Result<void> set_api_connections(const CommandOption& self, const std::string& text, ConfigFile& file) {
    const auto count = parse_number(text);
    if (!count || *count == 0 || *count > ApiConfig::most_connections)
        return refuse_option(self,
                             in_quotes(text) + " is not a number of connections from 1 to " +
                                 std::to_string(ApiConfig::most_connections),
                             "write a number such as 64");
    file.api.connections = static_cast<unsigned>(*count);
    return {};
}

Result<void> set_group(const CommandOption& self, const std::string& text, ConfigFile& file) {
    if (text.empty())
        return refuse_option(self, "the group is empty", "name a group of /etc/group");
    file.api.group = text;
    return {};
}

constexpr CommandOption of_machine[] = {
    {"--kernel", "FILE", "bzImage or ELF vmlinux; without it the built-in guest says hello",
     "/boot-source/kernel_image_path", set_path<kernel>, false, false, 'k'},
    {"--initrd", "FILE", "initial RAM disk", "/boot-source/initrd_path", set_path<initrd>, false, false, 'i'},
    {"--cmdline", "TEXT", "the kernel's whole command line", "/boot-source/boot_args", set_cmdline},
    {"--cpus", "N", "1 to 255; default 1", "/machine-config/vcpu_count", set_cpus, false, false, 'c'},
    {"--memory", "SIZE", "such as 512M or 4G; a plain number is MiB; default 128M", "/machine-config/mem_size_mib",
     set_memory, false, false, 'm'},
    {"--huge-pages", "KIND", "none, transparent or 2M; default transparent", "/machine-config/huge_pages",
     set_huge_pages},
    {"--smt", nullptr, "two threads per core", "/machine-config/smt", set_smt},
    {"--track-dirty-pages", nullptr, "note which memory is written, for small Diff snapshots",
     "/machine-config/track_dirty_pages", set_track_dirty_pages},
    {"--pci-window-32", "SIZE",
     "address space for BARs below 4 GiB; default 480M; more takes the place of memory there",
     "/inox/pci_window_32_mib", set_window<&PciWindows::bars_32>},
    {"--pci-window-64", "SIZE", "address space for 64-bit BARs; default: as far as the CPU's addresses reach",
     "/inox/pci_window_64_mib", set_window<&PciWindows::bars_64>},
    {"--smbios", "KEY=TEXT[,...]", "what the guest finds as its hardware: serial, uuid, manufacturer, product, ...",
     "/smbios", add_element},
    {"--pasid", "[quota=N]", "lets the guest allocate PASIDs (at most 1024 by default), also without an accelerator",
     "/pasid", add_element, false, true},
};

constexpr CommandOption of_run[] = {
    {"--forward", "HOST:GUEST", "with --net user: connections to this port of the host's loopback go to the guest's",
     "/network-interfaces/forward", add_forward, true},
    {"--timeout", "TIME", "end the guest after 500ms, 60s, 2m or 1h", "/inox/timeout", set_time<&RunOptions::timeout>},
    {"--expect", "REGEX", "succeed as soon as the console shows this; fail if it never does", "/inox/expect",
     set_expect},
    {"--on-panic", "WHAT",
     "report: inox reports a panic, and the run fails when the guest ends; end: a panic also ends the guest; "
     "default report",
     "/inox/on_panic", set_on_panic},
    {"--panic-text", "WHAT",
     "off: a panic that the console shows, but no pvpanic driver reports, is not a failure; default on",
     "/inox/panic_text", set_panic_text},
    {"--on-reboot", "WHAT",
     "end: a reboot ends the run successfully; fail: it ends the run with an error; restart: the guest starts "
     "again; default end",
     "/inox/on_reboot", set_on_reboot},
    {"--grace", "TIME", "SIGTERM first presses the power button, and ends the guest after this time", "/inox/grace",
     set_time<&RunOptions::grace>},
    {"--serial-log", "FILE", "keep a copy of the console's output", "/inox/serial_log", set_path<serial_log>},
    {"--console-overflow", "WHAT",
     "when nobody reads standard output: wait, the guest's write blocks until there is room; drop, the output is "
     "dropped and counted; default wait",
     "/inox/console_overflow", set_console_overflow},
    {"--fail-on", "WHAT", "make the run fail if a line of the console matches a REGEX; kernel: panic, oops, WARN, ...",
     "/inox/fail_on", set_fail_on, true},
    {"--quiet-for", "TIME", "end a guest whose console says nothing for so long", "/inox/quiet_for",
     set_time<&RunOptions::quiet_for>},
    {"--symbols", "FILE", "the kernel's System.map or vmlinux: names where a hanging guest is", "/inox/symbols",
     set_path<symbols>},
    {"--result", "FILE", "write how the run ended as a JSON object", "/inox/result", set_path<result_path>},
    {"--exits", "FILE", "write why and where the guest left for user space, counted; JSON if FILE ends in .json",
     "/inox/exits", set_path<exits_path>},
    {"--dump-on-panic", "FILE", "write an ELF core of the guest when its kernel panics", "/inox/dump_on_panic",
     set_path<dump_on_panic>},
    {"--gdb", "ADDRESS", "let GDB connect at a port or unix:PATH, and wait for it (,wait=off: do not)", "/inox/gdb",
     set_gdb},
    {"--boot-timeline", "FILE", "draw (.svg) or list (.json) the time of each step of the boot", "/inox/boot_timeline",
     set_boot_timeline},
    {"--quiet", nullptr, "print no closing line", "/inox/quiet", set_quiet, false, false, 'q'},
    {"--id", "[NAME]", "a name for inox ps and inox ctl NAME; without NAME a new one is made", "/inox/id", set_id,
     false, true},
    {"--api-sock", "PATH", "serve the control API on this unix socket; fd:N: on one that is open already",
     "/inox/api_sock", set_path<api_socket>},
    {"--api-group", "GROUP", "members of this group may use the API too", "/inox/api_group", set_group},
    {"--api-connections", "N", "maximum number of clients at once; default 64", "/inox/api_connections",
     set_api_connections},
    {"--keep-fds", "N[,N...]", "descriptors that the API will name; all other inherited ones are closed",
     "/inox/keep_fds", set_keep_fds},
    {"--seccomp", "WHAT",
     "on: a system call that a thread has no use for ends the run; log: the kernel logs it only; off: no filters; "
     "default on",
     "/inox/seccomp", set_seccomp},
    {"--allow", "PATH[:ro]", "the API may name this file later, or files in this folder", "/inox/allow", add_allowed,
     true},
    {"--metrics", "FILE", "write a line of metrics at the start, once a minute and at the end", "/metrics/metrics_path",
     set_path<metrics_path>},
    {"--log-path", "FILE", "log to a file instead of standard error", "/logger/log_path", set_path<log_path>},
    {"--log-level", "LEVEL", "Off, Error, Warning, Info, Debug or Trace; default Warning", "/logger/level",
     set_log_level},
};

} // namespace

std::unexpected<Error> refuse_option(const CommandOption& option, std::string what, std::string hint) {
    return fail_at(option.name, Errc::bad_option, std::move(what), std::move(hint));
}

Result<void> add_element(const CommandOption& self, const std::string& text, ConfigFile& file) {
    std::vector<Error> problems;
    read_list_option(self.twin.substr(1), text, file, problems);
    if (problems.empty())
        return {};
    Error first = std::move(problems.front());
    // "--net queues" for "/network-interfaces/queues"; for an unknown key the text names it.
    std::string key = first.where.substr(std::min(self.twin.size(), first.where.size()));
    std::ranges::replace(key, '/', ' ');
    first.where = self.name + (first.code == Errc::config_unknown_key ? std::string{} : key);
    first.code = Errc::bad_option;
    return std::unexpected<Error>{std::move(first)};
}

Result<void> add_named(const CommandOption& self, const char* key, const std::string& text, ConfigFile& file) {
    const bool bare = !text.empty() && !text.substr(0, text.find(',')).contains('=');
    return add_element(self, bare ? std::string{key} + "=" + text : text, file);
}

std::span<const CommandOption> run_options() {
    static const std::vector<CommandOption> options = [] {
        std::vector<CommandOption> all{std::begin(of_machine), std::end(of_machine)};
        DeviceKinds::each([&]<class Options>() { all.push_back(Kind<Options>::option()); });
        std::ranges::copy(root_options(), std::back_inserter(all));
        all.insert(all.end(), std::begin(of_run), std::end(of_run));
        return all;
    }();
    return options;
}

} // namespace inox
