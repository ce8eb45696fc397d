// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/guest.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/config/config_text.hpp"
#include "vmm/jail/cgroup.hpp"
#include "vmm/jail/exec.hpp"
#include "vmm/jail/keeper.hpp"
#include "vmm/jail/namespaces.hpp"
#include "vmm/jail/room.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

constexpr int cannot_start = 1;

struct Pipe {
    UniqueFd read{};
    UniqueFd write{};

    static Result<Pipe> make() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0)
            return fail_os("Failed to make a pipe");
        return Pipe{UniqueFd{ends[0]}, UniqueFd{ends[1]}};
    }
};

/// What is passed on, and the end of a child.
sigset_t passed_signals() {
    sigset_t set{};
    ::sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGCHLD})
        ::sigaddset(&set, signal);
    return set;
}

int code_of(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

/// Passes signals on to `child` until it has ended; reaps whoever else is a child. Its exit code.
int wait_for(pid_t child) {
    const auto set = passed_signals();
    for (;;) {
        int status = 0;
        for (pid_t gone = 0; (gone = ::waitpid(-1, &status, WNOHANG)) > 0;)
            if (gone == child)
                return code_of(status);
        siginfo_t info{};
        if (const int signal = ::sigwaitinfo(&set, &info); signal > 0 && signal != SIGCHLD)
            ::kill(child, signal);
    }
}

class Guest {
public:
    Guest(const Options& options, Needs needs) : options_{options}, needs_{std::move(needs)} {}

    Result<int> run() {
        program_ = std::filesystem::read_symlink("/proc/self/exe").string();
        folder_ = std::filesystem::current_path().string();
        if (::getauxval(AT_BASE) != 0)
            TRY_VOID(add_libraries());
        if (options_.daemonize)
            if (const auto code = TRY(to_background()))
                return *code;
        const auto groups = TRY(Cgroups::plan(options_));
        Traces traces{.cgroups = groups.own(), .sockets = needs_.sockets};
        if (!options_.pid_file.empty())
            traces.pid_file = std::filesystem::absolute(options_.pid_file).string();
        if (options_.clean_up && traces.any())
            keeper_ = TRY(Keeper::start(traces));
        const auto code = guard(groups, traces);
        keeper_.finish(traces);
        return code;
    }

private:
    Result<int> guard(const Cgroups& groups, const Traces& traces) {
        if (options_.user_ns && ::geteuid() != 0)
            TRY_VOID(enter_user_namespace(open_proc().get(), options_.uid, options_.gid));
        TRY_VOID(enter_network(options_.netns));
        TRY_VOID(groups.make());
        TRY_VOID(write_pid(traces.pid_file));
        termios before{};
        const bool terminal = ::tcgetattr(STDIN_FILENO, &before) == 0;
        const auto set = passed_signals();
        ::sigprocmask(SIG_BLOCK, &set, &signals_before_);
        life_ = TRY(Pipe::make());
        if (::unshare(CLONE_NEWPID) != 0)
            return fail_os("Failed to make a PID namespace");
        const pid_t first = ::fork();
        if (first < 0)
            return fail_os("Failed cloning into a new child process");
        if (first == 0)
            ::_exit(first_process(groups));
        life_.read.reset();
        ready_.write.reset();
        if (options_.daemonize) // the first process says what goes wrong
            use_nothing(TRY(open_nothing()));
        const int code = wait_for(first);
        if (terminal && !options_.daemonize)
            ::tcsetattr(STDIN_FILENO, TCSANOW, &before); // for a guest that was killed
        if (options_.clean_up && !traces.pid_file.empty())
            ::unlink(traces.pid_file.c_str());
        return code;
    }

    /// The other process goes on without the terminal, and the caller's ends as soon as the guest's is there, or with
    /// the code of what went wrong.
    Result<std::optional<int>> to_background() {
        ready_ = TRY(Pipe::make());
        const pid_t child = ::fork();
        if (child < 0)
            return fail_os("Failed to daemonize");
        if (child == 0) {
            ready_.read.reset();
            ::setsid();
            return std::optional<int>{};
        }
        ready_.write.reset();
        char word = 0;
        if (::read(ready_.read.get(), &word, 1) == 1)
            return 0;
        int status = 0;
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR)
            continue;
        return std::max(code_of(status), 1);
    }

    /// The file gets its name once the number is in it, where the file system can do that: an empty one is nobody's,
    /// and would be left behind.
    [[nodiscard]] Result<void> write_pid(const std::string& path) const {
        if (path.empty())
            return {};
        const auto folder = std::filesystem::path{path}.parent_path().string();
        UniqueFd file{::open(folder.c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0644)}; // NOLINT(*-vararg)
        const bool unnamed = static_cast<bool>(file);
        if (!unnamed)
            file = UniqueFd{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)}; // NOLINT(*-vararg)
        if (!file)
            return fail_os("Failed to open file " + printable(path));
        TRY_VOID(write_all(file.get(), std::to_string(::getpid())));
        const auto name = format("/proc/self/fd/%d", file.get());
        if (unnamed && ::linkat(AT_FDCWD, name.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0)
            return fail_os("Failed to open file " + printable(path));
        return {};
    }

    /// A program that is not linked statically needs its libraries in the jail, too.
    Result<void> add_libraries() {
        for (const char* path : {"/usr", "/lib", "/lib64", "/etc/ld.so.cache"})
            needs_.binds.push_back({path, false});
        return {};
    }

    /// Of the PID namespace: its end is that of all others in it.
    int first_process(const Cgroups& groups) {
        life_.write.reset();
        auto child = start_inside(groups);
        if (!child) {
            static_cast<void>(write_all(STDERR_FILENO, child.error().report()));
            return exit_code(child.error().code);
        }
        ready_.write.reset();
        return wait_for(*child);
    }

    Result<pid_t> start_inside(const Cgroups& groups) {
        TRY_VOID(keeper_.watch_me());
        keeper_ = {};
        const auto proc = open_proc();
        TRY_VOID(groups.join(0));
        std::vector<Limit> limits = options_.limits;
        if (needs_.locks_memory && std::ranges::find(limits, RLIMIT_MEMLOCK, &Limit::resource) == limits.end() &&
            ::geteuid() == 0)
            limits.push_back({RLIMIT_MEMLOCK, RLIM_INFINITY});
        TRY_VOID(set_limits(limits));
        UniqueFd nothing;
        if (options_.daemonize)
            nothing = TRY(open_nothing());
        const bool in_user_ns = options_.user_ns && ::geteuid() != 0;
        TRY_VOID(enter_room(options_, needs_, program_, folder_));
        TRY_VOID(drop_privileges(options_, proc.get(), in_user_ns));
        TRY_VOID(end_with_parent());
        const pid_t child = ::fork();
        if (child < 0)
            return fail_os("Failed cloning into a new child process");
        if (child == 0)
            become_inox(nothing);
        if (options_.daemonize) {
            static_cast<void>(write_all(ready_.write.get(), "r"));
            use_nothing(nothing);
        }
        return child;
    }

    /// Behind the change of users, which clears it.
    [[nodiscard]] Result<void> end_with_parent() const {
        if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
            return fail_os("Failed to follow the jail's process");
        pollfd parent{life_.read.get(), POLLIN, 0};
        if (::poll(&parent, 1, 0) > 0) // it is gone
            ::_exit(cannot_start);
        return {};
    }

    [[noreturn]] void become_inox(const UniqueFd& nothing) const {
        ::setsid();
        ::sigprocmask(SIG_SETMASK, &signals_before_, nullptr);
        std::vector<std::string> words{program_path, "run"};
        words.insert(words.end(), options_.words.begin(), options_.words.end());
        std::vector<std::string> environment{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
        auto names = needs_.environment;
        names.emplace_back("TERM");
        for (const auto& name : names)
            if (const char* value = std::getenv(name.c_str())) // NOLINT(concurrency-mt-unsafe): one thread
                environment.push_back(name + "=" + value);
        if (nothing)
            use_nothing(nothing);
        execute_program(words, environment);
        static_cast<void>(write_all(STDERR_FILENO, fail_os("Failed to start inox in the jail").error().report()));
        ::_exit(cannot_start);
    }

    const Options& options_;
    Needs needs_;
    std::string program_{};
    std::string folder_{};
    Keeper keeper_{};
    Pipe life_{};  ///< its reading end sees the end of the process outside
    Pipe ready_{}; ///< tells who waits for the start
    sigset_t signals_before_{};
};

} // namespace

Result<int> run_guest(const Options& options, Needs needs) { return Guest{options, std::move(needs)}.run(); }

} // namespace inox::jail
