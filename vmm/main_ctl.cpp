// SPDX-License-Identifier: Apache-2.0
// `inox ctl`: what the control API can do, from a shell.
#include <algorithm>
#include <optional>

#include "api/client.hpp"
#include "api/json_tables.hpp"
#include "vmm/machine/config_text.hpp"
#include "vmm/main_commands.hpp"

namespace vmm::cli {
namespace {

using api::View;

struct Given {
    std::string socket{};
    std::string command{};
    std::vector<std::string> words{}; ///< what follows the command
    std::string kind{};
    bool json{false};
    bool force{false};
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
    Request (*request)(const Given& given);
};

Request action(const char* name) {
    return {"PUT", "/actions", api::object_text({{"action_type", api::quoted_json(name)}}), {}};
}
Request state(const char* name) { return {"PATCH", "/vm", api::object_text({{"state", api::quoted_json(name)}}), {}}; }
Request look(const char* target, View view) { return {"GET", target, {}, view}; }

std::string with_kind(std::string target, const Given& given) {
    if (!given.kind.empty())
        target += (target.find('?') == target.npos ? "?kind=" : "&kind=") + given.kind;
    return target;
}

std::string number_or_text(const std::string& word) { return parse_number(word) ? word : api::quoted_json(word); }

const CtlCommand commands[] = {
    {"status", "", 0, 0, "state, CPUs, memory, exits", [](const Given&) { return look("/inox/status", View::status); }},
    {"config", "", 0, 0, "the whole configuration", [](const Given&) { return look("/vm/config", View::config); }},
    {"start", "", 0, 0, "start the configured guest", [](const Given&) { return action("InstanceStart"); }},
    {"pause", "", 0, 0, "", [](const Given&) { return state("Paused"); }},
    {"resume", "", 0, 0, "", [](const Given&) { return state("Resumed"); }},
    {"stop", "", 0, 0, "ask the guest to end (Ctrl-Alt-Del)", [](const Given&) { return action("SendCtrlAltDel"); }},
    {"ctrl-alt-del", "", 0, 0, "the same", [](const Given&) { return action("SendCtrlAltDel"); }},
    {"flush-metrics", "", 0, 0, "write a line to the metrics file now",
     [](const Given&) { return action("FlushMetrics"); }},
    {"machine", "", 0, 0, "CPUs and memory", [](const Given&) { return look("/machine-config", View::machine); }},
    {"drives", "", 0, 0, "", [](const Given&) { return look("/vm/config", View::drives); }},
    {"nets", "", 0, 0, "", [](const Given&) { return look("/vm/config", View::nets); }},
    {"balloon", "[MIB]", 0, 1, "show it, or give it another size",
     [](const Given& given) {
         return given.words.empty()
                    ? look("/balloon", View::balloon)
                    : Request{
                          "PATCH", "/balloon", api::object_text({{"amount_mib", number_or_text(given.words[0])}}), {}};
     }},
    {"balloon-statistics", "", 0, 0, "what the guest says of its memory",
     [](const Given&) { return look("/balloon/statistics", View::balloon); }},
    {"metrics", "", 0, 0, "in Prometheus' text format",
     [](const Given&) {
         return Request{"GET", "/inox/metrics", {}, {}};
     }},
    {"events", "[SINCE]", 0, 1, "what happens, as it happens",
     [](const Given& given) {
         return Request{"GET", "/inox/events" + (given.words.empty() ? "" : "?since=" + given.words[0]), {}, {}};
     }},
    {"devices", "", 0, 0, "the guest's devices",
     [](const Given&) { return look("/inox/devices?limit=1000", View::devices); }},
    {"add-disk", "ID PATH", 2, 2, "plug a disk in",
     [](const Given& given) {
         return Request{
             "PUT",
             "/inox/devices/" + given.words[0],
             api::object_text({{"disk", api::object_text({{"path_on_host", api::quoted_json(given.words[1])}})}}),
             {}};
     }},
    {"add-net", "ID TAP", 2, 2, "plug a network interface in",
     [](const Given& given) {
         return Request{
             "PUT",
             "/inox/devices/" + given.words[0],
             api::object_text({{"net", api::object_text({{"host_dev_name", api::quoted_json(given.words[1])}})}}),
             {}};
     }},
    {"add-vfio", "ID ADDRESS", 2, 2, "give a PCI device of the host",
     [](const Given& given) {
         return Request{"PUT",
                        "/inox/devices/" + given.words[0],
                        api::object_text({{"vfio", api::object_text({{"host", api::quoted_json(given.words[1])}})}}),
                        {}};
     }},
    {"remove", "ID", 1, 1, "ask the guest to give a device back; with --force it is gone at once",
     [](const Given& given) {
         const std::string target = "/inox/devices/" + given.words[0] + (given.force ? "?force=true" : "");
         return Request{"DELETE", with_kind(target, given), {}, {}};
     }},
    {"irqs", "", 0, 0, "MSI routes in force", [](const Given&) { return look("/inox/irqs?limit=1000", View::irqs); }},
    {"iommu", "[DOMAIN]", 0, 1, "endpoints, domains, faults; or a domain's mappings",
     [](const Given& given) {
         return given.words.empty()
                    ? look("/inox/iommu", View::iommu)
                    : Request{"GET", "/inox/iommu?limit=1000&domain=" + given.words[0], {}, View::mappings};
     }},
    {"pasids", "", 0, 0, "sets, ids, translation table",
     [](const Given&) { return look("/inox/pasids", View::pasids); }},
    {"openapi", "", 0, 0, "the API's contract",
     [](const Given&) {
         return Request{"GET", "/inox/openapi.json", {}, {}};
     }},
    {"request", "METHOD PATH [BODY]", 2, 3, "anything else of the API",
     [](const Given& given) {
         return Request{given.words[0], given.words[1], given.words.size() > 2 ? given.words[2] : "", {}};
     }},
};

std::string help() {
    std::string out = "inox ctl -s SOCKET COMMAND: asks a running inox, through the socket that --api-sock named\n\n";
    for (const auto& command : commands) {
        std::string left = "  " + std::string{command.name} + " " + std::string{command.arguments};
        left.resize(std::max<std::size_t>(left.size() + 1, 32), ' ');
        out += left + command.help + "\n";
    }
    return out +
           "\n  -s, --socket PATH   the socket\n  --json              the answer as JSON\n"
           "  --force             remove at once\n  --kind KIND         of the device, where several have the id\n\n"
           "Exit code 0, or that of the refusal (docs/exit-codes.md).\n\n"
           "Examples:\n  inox run --api-sock /tmp/vm.sock &\n  inox ctl -s /tmp/vm.sock status\n"
           "  inox ctl -s /tmp/vm.sock add-disk data data.img\n";
}

std::unexpected<Error> wrong(std::string what, std::string hint = "see inox ctl --help") {
    return fail(Errc::bad_option, std::move(what), std::move(hint));
}

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
        else if (word == "--json")
            given.json = true;
        else if (word == "--force")
            given.force = true;
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

Result<const CtlCommand*> find_command(const Given& given) {
    std::vector<std::string_view> names;
    for (const auto& command : commands)
        names.push_back(command.name);
    const auto found = std::ranges::find(commands, given.command, &CtlCommand::name);
    if (given.command.empty())
        return wrong("the command is missing", "try: inox ctl -s SOCKET status");
    if (found == std::end(commands))
        return wrong("unknown command " + in_quotes(given.command),
                     suggestion(given.command, names, "see inox ctl --help"));
    if (given.words.size() < found->least || given.words.size() > found->most)
        return wrong(given.command + " takes " +
                     (found->arguments.empty() ? std::string{"no arguments"} : std::string{found->arguments}));
    if (given.socket.empty())
        return wrong("the socket is missing", "name it with -s, as --api-sock of the running inox did");
    return found;
}

Result<int> work(const Given& given) {
    const auto* command = TRY(find_command(given));
    const auto request = command->request(given);
    const api::Client client{given.socket};
    if (command->name == "events") {
        const auto answer = TRY(client.follow(request.target, [&](std::string_view line) {
            return print(given.json ? std::string{line} + "\n" : api::event_text(line));
        }));
        return answer.status < 300 ? 0 : report_problem(api::refusal_error(answer.status, answer.body));
    }
    const auto answer = TRY(client.call(request.method, request.target, request.body));
    if (answer.status >= 300)
        return report_problem(api::refusal_error(answer.status, answer.body));
    if (answer.body.empty())
        return 0;
    if (request.view && !given.json)
        return print_and_finish(api::table_text(*request.view, answer.body));
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

} // namespace vmm::cli
