// SPDX-License-Identifier: Apache-2.0
// `inox exec`: a command in a running guest that has inox's init.
#include <cstdlib>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/client.hpp"
#include "api/json_tables.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/guest_root/exec_session.hpp"
#include "vmm/instance/raw_terminal.hpp"
#include "vmm/main_command.hpp"
#include "vmm/registry/registry.hpp"

namespace inox::cli {
namespace {

constexpr const char* examples = R"(Examples:
  inox run --kernel bzImage --root disk.img --vsock cid=3,uds=/tmp/vm.vsock --api-sock /tmp/vm.sock
  inox exec -s /tmp/vm.sock -- dmesg
  inox exec -s /tmp/vm.sock                         a shell
  inox exec vm1 -- dmesg                            in the guest that was started with --id vm1

The command runs in the guest's root, which --root named. With a terminal on standard input and output it gets one, too.
Standard input, output and error stay apart otherwise. The exit code is the command's, or 128 and the number of the
signal that ended it; that of an error is in docs/exit-codes.md.)";

/// The path of the guest's vsock, as this process reaches it: inox may have been started in another folder.
Result<std::string> vsock_of(const std::string& socket) {
    const auto answer = TRY(api::Client{socket}.call("GET", "/vm/config"));
    if (answer.status >= 300)
        return std::unexpected<Error>{api::refusal_error(answer.status, answer.body)};
    auto path = api::text_in(answer.body, {"vsock", "uds_path"});
    if (path.empty())
        return fail(Errc::not_found, "the guest has no vsock, by which commands reach it",
                    "start it with --vsock cid=3,uds=PATH");
    if (path.starts_with('/'))
        return path;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket.copy(address.sun_path, sizeof address.sun_path - 1);
    const UniqueFd server{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && // NOLINT: its type
        ::getsockopt(server.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
        return "/proc/" + std::to_string(peer.pid) + "/cwd/" + path;
    return path;
}

Result<int> execute(const std::string& socket, guest_root::ExecRequest request) {
    if (socket.empty())
        return fail(
            Errc::bad_option, "the socket is missing",
            "write inox exec ID, with an id that inox ps shows, or name the path that --api-sock gave inox with -s");
    const auto vsock = TRY(vsock_of(socket));
    auto guest = TRY(guest_root::connect_exec(vsock, std::chrono::seconds{10}));
    winsize size{};
    RawTerminal terminal{STDIN_FILENO};
    if (terminal.is_terminal() && ::isatty(STDOUT_FILENO) != 0 && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
        terminal.take())
        request.terminal = guest_root::Window{size.ws_row, size.ws_col};
    return guest_root::run_exec(std::move(guest), request, {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO});
}

} // namespace

int exec_command(Arguments all) {
    const auto end = std::ranges::find(all, std::string_view{"--"});
    Command command{"inox exec",
                    "Runs a command in a running guest that was started with --root and --vsock.",
                    examples,
                    {all.begin(), end}};
    std::string socket;
    std::vector<std::string> environment;
    guest_root::ExecRequest request;
    std::string id;
    command.add_positional("ID", id, "the id of the guest, instead of --socket: inox ps lists them");
    command.add("--socket", socket, "PATH", "the socket of the guest's control API", 's');
    command.add_list("--env", environment, "NAME[=VALUE]", "a variable of the command; without a value, as it is here");
    command.add("--directory", request.directory, "DIR", "where in the guest's root it runs; default /");
    if (const auto over = command.parse())
        return *over;
    if (socket.empty() && !id.empty()) {
        const auto guest = registry::find(id);
        if (!guest)
            return report_problem(make_error(Errc::not_found, "no guest with the id " + in_quotes(id) + " runs",
                                             "inox ps lists those that do"));
        socket = guest->socket;
    }
    if (end != all.end())
        request.arguments.assign(end + 1, all.end());
    for (const char* usual : {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                              "USER=root", "LOGNAME=root", "SHELL=/bin/sh"})
        request.environment.emplace_back(usual);
    environment.emplace_back("TERM");
    for (const auto& variable : environment) {
        if (variable.empty() || variable.starts_with('='))
            return report_problem(error_at("--env", Errc::bad_option, in_quotes(variable) + " has no name",
                                           "write NAME=VALUE, or NAME for the value it has here"));
        if (variable.contains('='))
            request.environment.push_back(variable);
        else if (const char* value = std::getenv(variable.c_str())) // NOLINT: nobody sets it
            request.environment.push_back(variable + "=" + value);
    }
    auto result = execute(socket, std::move(request));
    return result ? *result : report_problem(std::move(result).error());
}

} // namespace inox::cli
