// SPDX-License-Identifier: Apache-2.0
// The program: chooses the command, and prints an exception that nothing caught as an error.
#include <exception>
#include <fcntl.h>
#include <unistd.h>

#include "vmm/base/descriptors.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/share/process.hpp"

using namespace inox;

namespace {

constexpr const char* help = R"(inox: a small virtual machine monitor

  inox run [OPTIONS]     boot a guest, with its console on this terminal
  inox check FILE        check a configuration without starting it: show every problem at once
  inox host              show what this host can do for guests, and what is missing
  inox test [OPTIONS] -- COMMAND
                         boot kernels, run a command in each guest, and give a verdict
  inox jail -- run ...   the same in a jail: a root, processes and a user of its own
  inox snapshot ...      look at a snapshot that was saved
  inox template DIR ...  load a snapshot once, and make clones of its guest on request
  inox ps                list your guests that were started with --id
  inox ctl ID ...        ask a running inox, through its control API (or -s SOCKET)
  inox exec ID -- CMD ...
                         run a command in a running guest that has --root and --vsock
  inox --api-sock SOCKET ...
                         use Firecracker's flags: inox --no-api --help lists them

  inox COMMAND --help    show the options of a command
  inox --version         show the version

Examples:
  inox run               boot the built-in guest, which says hello: try this first
  inox run --kernel bzImage --initrd initrd.gz --memory 512M
)";

int dispatch(cli::Arguments arguments, Timeline& timeline) {
    static constexpr std::string_view commands[] = {"run", "check", "host", "test",     "jail",
                                                    "ps",  "ctl",   "exec", "snapshot", "template"};
    if (arguments.empty()) {
        static_cast<void>(cli::print(help));
        return cli::report_problem(make_error(Errc::bad_option, "no command given", "try: inox run"));
    }
    const std::string_view first = arguments[0];
    const auto rest = arguments.subspan(1);
    if (first == "run")
        return cli::run_command(rest, timeline);
    if (first == "check")
        return cli::check_command(rest);
    if (first == "host")
        return cli::host_command(rest);
    if (first == "ps")
        return cli::ps_command(rest);
    if (first == "ctl")
        return cli::ctl_command(rest);
    if (first == "exec")
        return cli::exec_command(rest);
    if (first == "test")
        return cli::test_command(rest);
    if (first == "snapshot")
        return cli::snapshot_command(rest);
    if (first == "template")
        return cli::template_command(rest);
    if (first == "jail")
        return cli::jail_command(rest);
    if (first == share::command)
        return share::serve(rest);
    if ((first == "--help" || first == "-h" || first == "help") && rest.empty())
        return cli::print_and_finish(help);
    if (first.starts_with('-'))
        return cli::firecracker_command(arguments, timeline);
    return cli::report_problem(
        make_error(Errc::bad_option, "unknown command " + in_quotes(first),
                   suggestion(first, commands,
                              "the commands are run, test, check, host, jail, snapshot, template, ps, ctl and exec")));
}

/// The program's name says which of Firecracker's two programs it stands for: callers name a path and nothing else.
bool is_jailer(std::string_view path) {
    const auto name = path.substr(path.rfind('/') + 1);
    return name == "jailer" || name == "inox-jailer";
}

/// A caller may have closed some of 0 to 2. The next file opened would get that number, and the guest's output with it.
void fill_standard_descriptors() {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
        if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) < 0) // NOLINT(*-vararg)
            static_cast<void>(::open("/", O_RDONLY | O_DIRECTORY));      // holds the number; reads and writes fail
}

} // namespace

int main(int argc, char** argv) {
    fill_standard_descriptors();
    descriptors::raise_limit();
    for (int i = 1; i < argc; ++i)
        descriptors::keep_named(argv[i]);
    Timeline timeline;
    timeline.mark(Timeline::Step::process_started);
    try {
        const cli::Arguments arguments{argv + (argc > 0 ? 1 : 0), argv + argc};
        return argc > 0 && is_jailer(argv[0]) ? cli::jail_command(arguments) : dispatch(arguments, timeline);
    } catch (const std::bad_alloc&) {
        return cli::report_problem(make_error(Errc::no_resource, "out of memory", "free memory on the host"));
    } catch (const std::exception& error) {
        return cli::report_problem(make_error(Errc::internal, error.what(), "this is a bug in inox: please report it"));
    } catch (...) {
        return cli::report_problem(
            make_error(Errc::internal, "unknown exception", "this is a bug in inox: please report it"));
    }
}
