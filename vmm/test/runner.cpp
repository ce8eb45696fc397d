// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/runner.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <memory>

#include "vmm/test/guest_stream.hpp"
#include "vmm/test/signals.hpp"

namespace inox::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t tail_lines = 20;
constexpr auto look_again = std::chrono::milliseconds{20}; // at the output of machines that run

void say(const std::string& text) { static_cast<void>(write_all(STDERR_FILENO, text)); }

/// A machine that runs.
class Running {
public:
    Running(const Plan& plan, const Machine& machine, const RunnerOptions& options)
        : plan_{plan}, machine_{machine}, options_{options} {
        outputs_.folder = options.folder + "/" + machine.file_name();
        streams_.emplace_back(outputs_.console(), [this](std::string_view line) {
            log_.take(line);
            if (options_.console || plan_.command.empty())
                show(line);
        });
        if (!plan.command.empty())
            streams_.emplace_back(outputs_.output(), [this](std::string_view line) {
                results_.take(line);
                show(line);
            });
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

    Result<void> start(const Signals& signals);
    [[nodiscard]] int fd() const { return process_.get(); }
    void read() {
        for (auto& stream : streams_)
            stream.read();
    }
    void interrupt() {
        interrupted_ = true;
        ::syscall(SYS_pidfd_send_signal, process_.get(), SIGTERM, nullptr, 0);
    }
    /// After its process ended.
    Done finish();

private:
    [[noreturn]] void execute(const std::vector<std::string>& arguments, const Signals& signals) const;
    void show(std::string_view line) {
        if (!options_.stream)
            return;
        unfinished_ = !line.ends_with('\n') && options_.at_once == 1;
        std::string text;
        if (options_.at_once > 1)
            text = "[" + std::to_string(machine_.index) + "] ";
        text += line;
        if (options_.at_once > 1 && !text.ends_with('\n'))
            text += '\n';
        static_cast<void>(write_all(STDOUT_FILENO, text)); // a reader that has gone is no failure of the machine
    }

    const Plan& plan_;
    const Machine& machine_;
    const RunnerOptions& options_;
    Outputs outputs_{};
    std::deque<GuestStream> streams_{};
    Ktap log_{};     ///< of the console
    Ktap results_{}; ///< of the command's output
    UniqueFd process_{};
    pid_t pid_{};
    bool interrupted_{false};
    bool unfinished_{false}; ///< what was shown ends within a line
    Clock::time_point started_{Clock::now()};
};

Result<void> Running::start(const Signals& signals) {
    std::error_code error;
    std::filesystem::remove_all(outputs_.folder, error); // of a test before
    std::filesystem::create_directories(outputs_.folder, error);
    if (error) {
        errno = error.value();
        return fail_errno(Errc::output_unwritable, "cannot make the folder " + outputs_.folder,
                          "name another one with --artifacts");
    }
    const auto arguments = run_arguments(plan_, machine_, outputs_);
    const auto parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0)
        return fail_errno(Errc::host_error, "cannot start a process");
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGTERM); // NOLINT(*-vararg)
        if (::getppid() != parent)
            ::_exit(1);
        execute(arguments, signals);
    }
    process_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (!process_)
        return fail_errno(Errc::host_error, "cannot watch a process");
    return {};
}

void Running::execute(const std::vector<std::string>& arguments, const Signals& signals) const {
    std::vector<const char*> words{"inox"};
    for (const auto& word : arguments)
        words.push_back(word.c_str());
    words.push_back(nullptr);
    ::setpgid(0, 0); // Ctrl-C reaches us alone, who decide
    ::sigprocmask(SIG_SETMASK, &signals.before(), nullptr);
    const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC); // NOLINT(*-vararg)
    const int errors =
        ::open(outputs_.errors().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644); // NOLINT(*-vararg)
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(nothing, STDOUT_FILENO);
    ::dup2(errors < 0 ? nothing : errors, STDERR_FILENO);
    ::execv("/proc/self/exe", const_cast<char* const*>(words.data()));
    ::_exit(127);
}

Done Running::finish() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    for (auto& stream : streams_)
        stream.finish();
    if (options_.announce && unfinished_)
        say("\n");
    ProcessEnd end;
    end.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    end.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    end.interrupted = interrupted_;
    end.seconds = std::chrono::duration<double>(Clock::now() - started_).count();
    const auto result = read_start(outputs_.result(), 64 << 20);
    const auto errors = read_start(outputs_.errors(), 64 << 10).value_or("");
    auto outcome = judge(end, result, errors);
    log_.finish(outcome.why); // why results are missing
    results_.finish(outcome.why);
    auto cases = results_.results();
    cases.insert(cases.end(), log_.results().begin(), log_.results().end());
    Done done{.machine = machine_,
              .outcome = std::move(outcome),
              .repeat = repeat_line(plan_, machine_),
              .command = command_line(plan_),
              .log_tail = {}};
    add_cases(std::move(cases), done.outcome);
    for (const auto& stream : streams_)
        if (const auto text = stream.left_out(); !text.empty())
            done.outcome.details.push_back(std::filesystem::path{stream.path()}.filename().string() + ": " + text);
    done.outcome.dropped_cases = log_.dropped() + results_.dropped();
    std::error_code ignored;
    if (done.outcome.verdict == Verdict::good) {
        std::filesystem::remove_all(outputs_.folder, ignored);
    } else {
        done.outcome.folder = outputs_.folder;
        const bool seen = options_.stream && (options_.console || plan_.command.empty());
        if (!seen && done.outcome.verdict != Verdict::failed && done.outcome.verdict != Verdict::unable)
            done.log_tail = last_lines(outputs_.console(), tail_lines);
    }
    return done;
}

} // namespace

Result<std::vector<Done>> run_machines(const Plan& plan, std::span<const Machine> machines,
                                       const RunnerOptions& options) {
    const Signals signals;
    std::vector<std::optional<Done>> done(machines.size());
    std::vector<std::pair<std::size_t, std::unique_ptr<Running>>> running;
    std::size_t next = 0;
    bool interrupted = false;
    while (next < machines.size() || !running.empty()) {
        while (!interrupted && next < machines.size() && running.size() < options.at_once) {
            auto one = std::make_unique<Running>(plan, machines[next], options);
            if (options.announce)
                say("inox test: " + machines[next].text() + ": starts\n");
            TRY(one->start(signals));
            running.emplace_back(next++, std::move(one));
        }
        for (; interrupted && next < machines.size(); ++next) {
            done[next] = not_run(plan, machines[next], "interrupted before it started");
            if (options.announce)
                say(verdict_text(*done[next]));
        }
        std::vector<pollfd> waits{{signals.fd(), POLLIN, 0}};
        for (const auto& [index, one] : running)
            waits.push_back({one->fd(), POLLIN, 0});
        ::poll(waits.data(), waits.size(), static_cast<int>(look_again.count()));
        if (signals.take()) {
            interrupted = true;
            for (const auto& [index, one] : running)
                one->interrupt();
        }
        for (std::size_t i = running.size(); i-- > 0;) {
            auto& [index, one] = running[i];
            one->read();
            if (waits[i + 1].revents == 0)
                continue;
            done[index] = one->finish();
            if (options.announce)
                say(verdict_text(*done[index]));
            running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    std::vector<Done> out;
    for (auto& one : done)
        out.push_back(std::move(*one));
    return out;
}

} // namespace inox::test
