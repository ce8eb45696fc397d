// SPDX-License-Identifier: Apache-2.0
// `inox ctl`: what the control API can do, from a shell.
#include <algorithm>
#include <climits>
#include <filesystem>
#include <optional>
#include <span>

#include "api/client.hpp"
#include "api/json_spawn.hpp"
#include "api/json_tables.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/instance/snapshot/contents.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/registry/registry.hpp"

namespace inox::cli {
namespace {

using api::View;

/// What stands behind `spawn`.
struct SpawnWords {
    std::vector<std::pair<std::string, std::string>> options{}; ///< name and value
    bool paused{false};
};

struct Given {
    std::string socket{};
    std::string command{};
    std::vector<std::string> words{}; ///< what follows the command
    std::string kind{};
    std::string timeout{};
    std::string interval{};
    bool once{false};
    bool json{false};
    bool force{false};
    bool diff{false};
    SpawnWords spawn{};
    std::string downtime{};
};

struct Request {
    std::string method{"GET"};
    std::string target{};
    std::string body{};
    std::optional<View> view{};
};

struct CtlCommand {
    std::string_view name;
    std::string_view arguments; ///< for the help
    std::size_t least;          ///< words it needs
    std::size_t most;
    const char* help;
    Request (*request)(const Given& given); ///< null: the command is more than a request
};

Request action(const char* name) {
    return {"PUT", "/actions", api::object_text({{"action_type", api::quoted_json(name)}}), {}};
}
Request state(const char* name) { return {"PATCH", "/vm", api::object_text({{"state", api::quoted_json(name)}}), {}}; }
Request look(const char* target, View view) { return {"GET", target, {}, view}; }

std::string device_path(const std::string& id) { return "/inox/devices/" + api::percent_encoded(id); }

/// ID VALUE [KEY=VALUE...]: a device of this kind, with VALUE for its key `main`.
Request add(const Given& given, const char* kind, const char* main) {
    const bool text = std::string_view{main} != "user";
    std::vector<std::pair<std::string, std::string>> members{
        {main, text ? api::quoted_json(given.words[1]) : api::json_or_quoted(given.words[1])}};
    for (std::size_t i = 2; i < given.words.size(); ++i) {
        const auto equals = given.words[i].find('=');
        members.emplace_back(given.words[i].substr(0, equals), api::json_or_quoted(given.words[i].substr(equals + 1)));
    }
    return {"PUT", device_path(given.words[0]), api::object_text({{kind, api::object_text(members)}}), {}};
}

/// As --net: the word user is no tap, and neither is KEY=VALUE.
Request add_net(Given given) {
    if (given.words[1] == "user")
        given.words[1] = "user=true";
    if (!given.words[1].contains('='))
        return add(given, "net", "host_dev_name");
    const auto first = given.words[1];
    const auto equals = first.find('=');
    given.words[1] = first.substr(equals + 1);
    const auto key = first.substr(0, equals);
    return add(given, "net", key.c_str());
}

Request remove(const Given& given) {
    std::string target = device_path(given.words[0]) + (given.force ? "?force=true" : "");
    if (!given.kind.empty())
        target += (given.force ? "&kind=" : "?kind=") + api::percent_encoded(given.kind);
    return {"DELETE", target, {}, {}};
}

/// The server may work in another folder than we do.
std::string in_this_folder(const std::string& path) {
    std::error_code error; // the path is empty, or our folder is gone: the server says what is wrong with it
    const auto whole = std::filesystem::absolute(path, error);
    return error ? path : whole.string();
}

/// The same for the path of a stream.
std::string whole_stream(const std::string& stream) {
    return stream.starts_with("unix:") ? "unix:" + in_this_folder(stream.substr(5)) : stream;
}

constexpr std::size_t most_words = 32;

const CtlCommand commands[] = {
    {"status", "", 0, 0, "show state, CPUs, memory and exits",
     [](const Given&) { return look("/inox/status", View::status); }},
    {"config", "", 0, 0, "show the whole configuration", [](const Given&) { return look("/vm/config", View::config); }},
    {"start", "", 0, 0, "start the configured guest", [](const Given&) { return action("InstanceStart"); }},
    {"pause", "", 0, 0, "pause the guest", [](const Given&) { return state("Paused"); }},
    {"resume", "", 0, 0, "let the paused guest continue", [](const Given&) { return state("Resumed"); }},
    {"stop", "", 0, 0, "ask the guest to reboot (Ctrl-Alt-Del); the reboot ends it",
     [](const Given&) { return action("SendCtrlAltDel"); }},
    {"ctrl-alt-del", "", 0, 0, "the same as stop", [](const Given&) { return action("SendCtrlAltDel"); }},
    {"shutdown", "", 0, 0, "press the guest's power button",
     [](const Given&) {
         return Request{"PUT", "/inox/power-button", api::object_text({}), {}};
     }},
    {"nmi", "", 0, 0, "send every vCPU a non-maskable interrupt; Linux shows a backtrace with unknown_nmi_panic",
     [](const Given&) {
         return Request{"PUT", "/inox/nmi", api::object_text({}), {}};
     }},
    {"dump", "FILE", 1, 1, "write the guest's memory and CPUs to a new file, an ELF core for crash and drgn",
     [](const Given& given) {
         return Request{
             "PUT", "/inox/dump", api::object_text({{"path", api::quoted_json(in_this_folder(given.words[0]))}}), {}};
     }},
    {"snapshot", "DIR", 1, 1,
     "save the guest into this folder; `inox run --from DIR` goes on from there; with --diff, only what changed since "
     "the "
     "last one, for `inox snapshot merge`",
     [](const Given& given) {
         return Request{"PUT",
                        "/inox/snapshot",
                        api::object_text({{"path", api::quoted_json(in_this_folder(given.words[0]))},
                                          {"diff", given.diff ? "true" : "false"}}),
                        {}};
     }},
    {"move", "STREAM", 1, 1,
     "move the guest to another process, which waits with `inox run --incoming STREAM`; STREAM is unix:PATH, or fd:N "
     "that --keep-fds named; with "
     "--downtime TIME, how long it may stand still (default 300ms)",
     [](const Given& given) {
         std::vector<std::pair<std::string, std::string>> members{
             {"stream", api::quoted_json(whole_stream(given.words[0]))}};
         if (const auto time = parse_duration(given.downtime))
             members.emplace_back("downtime_ms", std::to_string(time->count()));
         return Request{"PUT", "/inox/move", api::object_text(members), {}};
     }},
    {"cancel-move", "", 0, 0, "give up the move; the guest runs on",
     [](const Given&) {
         return Request{"DELETE", "/inox/move", {}, {}};
     }},
    {"end", "", 0, 0, "end the guest at once",
     [](const Given&) {
         return Request{"PUT", "/inox/end", api::object_text({}), {}};
     }},
    {"cancel-snapshot", "", 0, 0, "give up the snapshot that is being written",
     [](const Given&) {
         return Request{"DELETE", "/inox/snapshot", {}, {}};
     }},
    {"spawn", "[OPTIONS]", 0, 0, "of a template: make a clone; its options are below", nullptr},
    {"clones", "", 0, 0, "of a template: list the clones that run",
     [](const Given&) { return look("/inox/clones?limit=1000", View::clones); }},
    {"flush-metrics", "", 0, 0, "write a line to the metrics file now",
     [](const Given&) { return action("FlushMetrics"); }},
    {"machine", "", 0, 0, "show CPUs and memory", [](const Given&) { return look("/machine-config", View::machine); }},
    {"drives", "", 0, 0, "list the disks", [](const Given&) { return look("/vm/config", View::drives); }},
    {"nets", "", 0, 0, "list the network interfaces", [](const Given&) { return look("/vm/config", View::nets); }},
    {"balloon", "[MIB]", 0, 1, "show the balloon, or change its size",
     [](const Given& given) {
         return given.words.empty() ? look("/balloon", View::balloon)
                                    : Request{"PATCH",
                                              "/balloon",
                                              api::object_text({{"amount_mib", api::json_or_quoted(given.words[0])}}),
                                              {}};
     }},
    {"balloon-statistics", "", 0, 0, "show the guest's report about its memory",
     [](const Given&) { return look("/balloon/statistics", View::balloon); }},
    {"metrics", "", 0, 0, "show metrics in Prometheus' text format; --json: a list of name, labels, type, value",
     [](const Given&) {
         return Request{"GET", "/inox/metrics", {}, {}};
     }},
    {"events", "[SINCE]", 0, 1, "show events as they happen",
     [](const Given& given) {
         return Request{"GET",
                        "/inox/events" + (given.words.empty() ? "" : "?since=" + api::percent_encoded(given.words[0])),
                        {},
                        {}};
     }},
    {"devices", "", 0, 0, "list the guest's devices",
     [](const Given&) { return look("/inox/devices?limit=1000", View::devices); }},
    {"add-disk", "ID PATH [KEY=VALUE...]", 2, most_words,
     "add a disk to the running guest; for example with is_read_only=true",
     [](const Given& given) { return add(given, "disk", "path_on_host"); }},
    {"add-net", "ID TAP [KEY=VALUE...]", 2, most_words,
     "add a network interface to the running guest; for example with mtu=9000; user for TAP: the user's network",
     [](const Given& given) { return add_net(given); }},
    {"add-vfio", "ID ADDRESS [KEY=VALUE...]", 2, most_words,
     "add a PCI device of the host to the running guest; for example with backend=iommufd",
     [](const Given& given) { return add(given, "vfio", "host"); }},
    {"remove", "ID", 1, 1, "ask the guest to release a device; with --force, remove it at once", remove},
    {"exits", "", 0, 0, "list why and where the guest left for user space, counted from the first such request on",
     [](const Given&) { return look("/inox/exits", View::exits); }},
    {"top", "", 0, 0, "show exits, devices' rates and faults a second until Ctrl-C; with --once, one frame", nullptr},
    {"irqs", "", 0, 0, "list the MSI routes in force",
     [](const Given&) { return look("/inox/irqs?limit=1000", View::irqs); }},
    {"iommu", "[DOMAIN]", 0, 1, "show endpoints, domains and faults, or a domain's mappings",
     [](const Given& given) {
         return given.words.empty() ? look("/inox/iommu", View::iommu)
                                    : Request{"GET",
                                              "/inox/iommu?limit=1000&domain=" + api::percent_encoded(given.words[0]),
                                              {},
                                              View::mappings};
     }},
    {"pasids", "", 0, 0, "show sets, ids and the translation table",
     [](const Given&) { return look("/inox/pasids", View::pasids); }},
    {"openapi", "", 0, 0, "print the API's contract",
     [](const Given&) {
         return Request{"GET", "/inox/openapi.json", {}, {}};
     }},
    {"request", "METHOD PATH [BODY]", 2, 3, "send any other request",
     [](const Given& given) {
         return Request{given.words[0], given.words[1], given.words.size() > 2 ? given.words[2] : "", {}};
     }},
};

std::string help() {
    std::string out = "inox ctl ID COMMAND: asks the inox that was started with --id ID\n"
                      "inox ctl -s SOCKET COMMAND: the same, through the socket that --api-sock named\n\n";
    for (const auto& command : commands) {
        std::string left = "  " + std::string{command.name} + " " + std::string{command.arguments};
        left.resize(std::max<std::size_t>(left.size() + 1, 38), ' ');
        out += left + command.help + "\n";
    }
    return out +
           "\n  -s, --socket PATH   the socket of the control API\n  --json              print the answer as JSON\n"
           "  --force             remove the device at once\n  --diff              save only what changed since the "
           "last snapshot\n"
           "  --kind KIND         the kind of the device, if several "
           "devices have the id\n"
           "  --downtime TIME     how long a guest that moves may stand still; default 300ms\n"
           "  --interval TIME     between two frames of top; default 1s\n"
           "  --once              one frame of top\n"
           "  --timeout TIME      how long to wait for an answer, such as 500ms or 2m; default 1m\n\n"
           "Options of spawn, for what the clone has of its own; {n} in one of them is the clone's number:\n"
           "  --id ID             its id for inox ps and inox ctl; with --count, -1, -2, ... follow it\n"
           "  --api-sock PATH     the socket of its control API\n"
           "  --net TAP,id=ID     of an interface of the snapshot: as inox run takes it\n"
           "  --disk id=ID,path=FILE\n"
           "                      of a disk; path=fd:5 is the file that inox ctl has open as descriptor 5\n"
           "  --vsock cid=N,uds=PATH\n"
           "                      its address and its socket\n"
           "  --console FILE      of the virtio console\n"
           "  --serial-log FILE   a copy of its console's output\n"
           "  --allow PATH[:ro]   what its API may name later\n"
           "  --clock WHAT        continue or realtime\n"
           "  --paused            it waits for inox ctl resume\n"
           "  --count N           so many clones\n\n"
           "KEY is a key of the configuration's section (docs/config.md); VALUE is true, false, a number, JSON, or "
           "text.\n"
           "The exit code is 0, or that of the refusal (docs/exit-codes.md).\n\n"
           "Examples:\n  inox run --id vm1 &\n  inox ctl vm1 status\n  inox run --api-sock /tmp/vm.sock &\n  inox ctl "
           "-s /tmp/vm.sock status\n"
           "  inox ctl -s /tmp/vm.sock add-disk data data.img\n"
           "  inox ctl -s /tmp/vm.sock add-vfio nvme 0000:01:00.0 backend=iommufd rom=false\n"
           "  inox ctl -s /tmp/template.sock spawn --id web --count 3 --disk 'id=root,path=/srv/{n}.img'\n";
}

std::unexpected<Error> wrong(std::string what, std::string hint = "see inox ctl --help") {
    return fail(Errc::bad_option, std::move(what), std::move(hint));
}

constexpr std::string_view spawn_options[] = {"--id",      "--api-sock",   "--net",   "--disk",  "--vsock",
                                              "--console", "--serial-log", "--clock", "--count", "--allow"};

Result<Given> parse(Arguments arguments) {
    Given given;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string word = arguments[i];
        const auto value = [&](std::string& out) -> Result<void> {
            if (i + 1 == arguments.size())
                return wrong("the value of " + word + " is missing");
            out = arguments[++i];
            return {};
        };
        if (word == "-s" || word == "--socket")
            TRY_VOID(value(given.socket));
        else if (word == "--kind")
            TRY_VOID(value(given.kind));
        else if (word == "--timeout")
            TRY_VOID(value(given.timeout));
        else if (word == "--downtime")
            TRY_VOID(value(given.downtime));
        else if (word == "--interval")
            TRY_VOID(value(given.interval));
        else if (std::ranges::find(spawn_options, word) != std::end(spawn_options)) {
            given.spawn.options.emplace_back(word, "");
            TRY_VOID(value(given.spawn.options.back().second));
        } else if (word == "--paused")
            given.spawn.paused = true;
        else if (word == "--once")
            given.once = true;
        else if (word == "--json")
            given.json = true;
        else if (word == "--force")
            given.force = true;
        else if (word == "--diff")
            given.diff = true;
        else if (word == "-h" || word == "--help")
            given.command = "help";
        else if (word.starts_with("-") && word != "-")
            return wrong("unknown option " + in_quotes(word));
        else if (given.command.empty())
            given.command = word;
        else
            given.words.push_back(word);
    }
    return given;
}

/// Refuses words that would make no request, or another request than the user meant.
Result<void> check_words(const Given& given) {
    if (given.command.starts_with("add-"))
        for (const auto& word : std::span{given.words}.subspan(2))
            if (word.find('=') == word.npos || word.starts_with('='))
                return wrong(in_quotes(word) + " is not KEY=VALUE", "write backend=iommufd, for example");
    if (!given.downtime.empty() && !parse_duration(given.downtime))
        return wrong(no_duration(given.downtime), duration_rule);
    if (given.command == "request" &&
        !std::ranges::all_of(given.words[0], [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }))
        return wrong(in_quotes(given.words[0]) + " is not a method", "the methods are GET, PUT, PATCH and DELETE");
    return {};
}

bool is_command(std::string_view word) {
    return std::ranges::find(commands, word, &CtlCommand::name) != std::end(commands);
}

/// Without -s the first word is a guest's id; the socket is then that guest's.
Result<void> find_guest(Given& given) {
    if (!given.socket.empty() || given.command.empty())
        return {};
    const auto id = given.command;
    auto guest = registry::find(id);
    if (!guest && is_command(id))
        return wrong("the socket is missing", "write inox ctl ID " + id +
                                                  ", with an id that inox ps shows, or name the "
                                                  "path that --api-sock gave the running inox with -s");
    if (!guest) {
        const auto running = registry::running();
        std::vector<std::string_view> ids;
        for (const auto& one : running)
            ids.emplace_back(one.id);
        return fail(Errc::not_found, "no guest with the id " + in_quotes(id) + " runs",
                    suggestion(id, ids, "inox ps lists those that do"));
    }
    given.socket = guest->socket;
    given.command = given.words.empty() ? "" : given.words.front();
    if (!given.words.empty())
        given.words.erase(given.words.begin());
    return {};
}

Result<const CtlCommand*> find_command(const Given& given) {
    std::vector<std::string_view> names;
    for (const auto& command : commands)
        names.push_back(command.name);
    const auto found = std::ranges::find(commands, given.command, &CtlCommand::name);
    if (given.command.empty())
        return wrong("the command is missing", "try: inox ctl ID status");
    if (found == std::end(commands))
        return wrong("unknown command " + in_quotes(given.command),
                     suggestion(given.command, names, "see inox ctl --help"));
    if (given.words.size() < found->least || given.words.size() > found->most)
        return wrong(given.command + " takes " +
                     (found->arguments.empty() ? std::string{"no arguments"} : std::string{found->arguments}));
    TRY_VOID(check_words(given));
    return found;
}

Result<int> work_top(const Given& given) {
    const auto interval = parse_duration(given.interval.empty() ? "1s" : given.interval);
    if (!interval || *interval < std::chrono::milliseconds{100})
        return wrong("--interval: " + (interval ? "a frame takes at least 100ms" : no_duration(given.interval)),
                     duration_rule);
    if (given.json)
        return wrong("top is for people", "ctl exits --json and ctl metrics --json have its numbers");
    return top(given.socket, *interval, given.once);
}

/// "fd:5" at the start or behind a '=' becomes its place among the descriptors that go along.
Result<std::string> with_descriptors(const std::string& text, std::vector<int>& passed) {
    const auto at = text.starts_with("fd:") ? 0 : text.find("=fd:");
    if (at == text.npos)
        return text;
    const auto start = at == 0 ? 3 : at + 4;
    const auto end = std::min(text.find(',', start), text.size());
    const auto number = parse_number(text.substr(start, end - start));
    if (!number || *number > INT_MAX || !descriptors::is_open(static_cast<int>(*number)))
        return wrong(in_quotes(text.substr(start - 3, end - start + 3)) + " is no descriptor that is open",
                     "open it where inox ctl is started, such as 5<>FILE in a shell");
    passed.push_back(static_cast<int>(*number));
    return text.substr(0, start) + std::to_string(passed.size() - 1) + text.substr(end);
}

Result<int> work_spawn(const Given& given, std::chrono::milliseconds limit) {
    ConfigFile names = initial_config(Dialect::inox);
    std::vector<std::pair<std::string, std::string>> own;
    std::vector<int> passed;
    std::string allowed;
    for (const auto& [name, text] : given.spawn.options) {
        const auto value = TRY(with_descriptors(text, passed));
        const auto option = std::ranges::find_if(
            run_options(), [&](const CommandOption& one) { return std::string_view{one.name} == name; });
        if (name == "--count")
            own.emplace_back("count", api::json_or_quoted(value));
        else if (name == "--clock")
            own.emplace_back("clock", api::quoted_json(value));
        else if (name == "--allow")
            allowed += (allowed.empty() ? "" : ",") + api::quoted_json(in_this_folder(value));
        else if (name == "--id")
            own.emplace_back("id", api::quoted_json(value));
        else if (name == "--api-sock" || name == "--serial-log")
            own.emplace_back(name == "--api-sock" ? "api_sock" : "serial_log",
                             api::quoted_json(value.starts_with("fd:") ? value : in_this_folder(value)));
        else if (option != run_options().end())
            TRY_VOID(option->apply(*option, value, names));
    }
    if (!allowed.empty())
        own.emplace_back("allow", "[" + allowed + "]");
    if (given.spawn.paused)
        own.emplace_back("paused", "true");
    std::error_code error;
    make_paths_absolute(names.config, std::filesystem::current_path(error).string());
    const api::Client client{given.socket, limit};
    const auto answer = TRY(client.call("PUT", "/inox/spawn", api::spawn_body(names.config, own), passed));
    if (answer.status >= 300)
        return report_problem(api::refusal_error(answer.status, answer.body));
    return print_and_finish(given.json ? api::pretty(answer.body) : api::table_text(View::spawned, answer.body));
}

Result<int> work(Given& given) {
    TRY_VOID(find_guest(given));
    const auto* command = TRY(find_command(given));
    if (command->name == "top")
        return work_top(given);
    if (given.once || !given.interval.empty())
        return wrong("--once and --interval are of top");
    if (command->name != "spawn" && (given.spawn.paused || !given.spawn.options.empty()))
        return wrong((given.spawn.options.empty() ? "--paused" : given.spawn.options.front().first) + " is of spawn");
    const auto limit = parse_duration(given.timeout.empty() ? "1m" : given.timeout);
    if (!limit)
        return wrong("--timeout: " + no_duration(given.timeout), duration_rule);
    if (command->name == "spawn")
        return work_spawn(given, *limit);
    const auto request = command->request(given);
    const api::Client client{given.socket, *limit};
    if (command->name == "events") {
        bool heard = true;
        const auto answer = TRY(client.follow(request.target, [&](std::string_view line) {
            return heard = print(given.json ? std::string{line} + "\n" : api::event_text(line));
        }));
        if (!heard)
            return report_unheard();
        return answer.status < 300 ? 0 : report_problem(api::refusal_error(answer.status, answer.body));
    }
    const auto answer = TRY(client.call(request.method, request.target, request.body));
    if (answer.status >= 300)
        return report_problem(api::refusal_error(answer.status, answer.body));
    if (answer.body.empty())
        return 0;
    if (request.view && !given.json)
        return print_and_finish(api::table_text(*request.view, answer.body));
    if (command->name == "metrics" && given.json)
        return print_and_finish(api::metrics_json(answer.body));
    return print_and_finish(given.json ? api::pretty(answer.body)
                                       : answer.body + (answer.body.ends_with('\n') ? "" : "\n"));
}

} // namespace

int ctl_command(Arguments arguments) {
    auto given = parse(arguments);
    if (!given)
        return report_problem(std::move(given).error());
    if (given->command == "help")
        return print_and_finish(help());
    auto result = work(*given);
    return result ? *result : report_problem(std::move(result).error());
}

} // namespace inox::cli
