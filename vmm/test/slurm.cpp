// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/slurm.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <map>

#include "vmm/config/config_text.hpp"
#include "vmm/test/guest_stream.hpp"
#include "vmm/test/signals.hpp"

namespace inox::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds between_files{250};
constexpr std::chrono::seconds between_states{3};
/// A task's file may appear on this machine later than the end of the task is told.
constexpr std::chrono::seconds late_file{5};
constexpr std::chrono::minutes end_of_task{2}; // beside the guest's time

struct Answer {
    int code{-1};
    std::string out{};
    std::string errors{};
};

/// Runs a program and keeps what it prints. Blocks; SIGINT does not end it.
Answer ask(const std::vector<std::string>& words, const Signals& signals) {
    std::array<int, 2> out{-1, -1};
    std::array<int, 2> errors{-1, -1};
    if (::pipe2(out.data(), O_CLOEXEC) != 0 || ::pipe2(errors.data(), O_CLOEXEC) != 0)
        return {};
    std::vector<const char*> arguments;
    for (const auto& word : words)
        arguments.push_back(word.c_str());
    arguments.push_back(nullptr);
    const auto child = ::fork();
    if (child == 0) {
        ::setpgid(0, 0);
        ::sigprocmask(SIG_SETMASK, &signals.before(), nullptr);
        ::dup2(out[1], STDOUT_FILENO);
        ::dup2(errors[1], STDERR_FILENO);
        ::execvp(arguments[0], const_cast<char* const*>(arguments.data()));
        ::_exit(127);
    }
    const UniqueFd from_out{out[0]};
    const UniqueFd from_errors{errors[0]};
    ::close(out[1]);
    ::close(errors[1]);
    if (child < 0)
        return {};
    Answer answer;
    std::array<pollfd, 2> polls{{{from_out.get(), POLLIN, 0}, {from_errors.get(), POLLIN, 0}}};
    std::array<std::string*, 2> texts{&answer.out, &answer.errors};
    while (polls[0].fd >= 0 || polls[1].fd >= 0) {
        ::poll(polls.data(), polls.size(), -1);
        for (std::size_t i = 0; i < polls.size(); ++i) {
            std::array<char, 64 * 1024> buffer;
            if (polls[i].fd < 0 || polls[i].revents == 0)
                continue;
            const auto size = ::read(polls[i].fd, buffer.data(), buffer.size());
            if (size > 0)
                texts[i]->append(buffer.data(), static_cast<std::size_t>(size));
            else if (size == 0 || errno != EINTR)
                polls[i].fd = -1;
        }
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    answer.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return answer;
}

/// What the task prints.
std::string output_file(const std::string& folder, const std::string& index) { return folder + "/" + index + ".slurm"; }

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string largest(const std::vector<std::string>& values, auto parse) {
    std::uint64_t most = 0;
    for (const auto& value : values)
        most = std::max<std::uint64_t>(most, parse(value).value_or(0));
    return most == 0 ? "" : std::to_string(most);
}

std::vector<std::string> submit_words(const Plan& plan, std::size_t count, const SlurmOptions& options) {
    const auto minutes = std::chrono::ceil<std::chrono::minutes>(
                             parse_duration(plan.timeout).value_or(std::chrono::minutes{10}) + end_of_task)
                             .count();
    std::string array = "--array=0-" + std::to_string(count - 1);
    if (options.at_once != 0)
        array += "%" + std::to_string(options.at_once);
    std::vector<std::string> out{"sbatch",
                                 "--parsable",
                                 "--no-requeue",
                                 "--job-name=inox-test",
                                 array,
                                 "--output=" + output_file(options.folder, "%a"),
                                 "--time=" + std::to_string(minutes),
                                 "--signal=B:TERM@30"};
    if (const auto cpus = largest(plan.cpus, parse_number); !cpus.empty())
        out.push_back("--cpus-per-task=" + cpus);
    out.insert(out.end(), options.words.begin(), options.words.end());
    std::string task = "exec";
    for (const auto& word : options.task)
        task += " " + shell_word(word);
    out.push_back("--wrap=" + task);
    return out;
}

/// "3", "0-2", "0,4-6%2": the tasks that a record is about. Not more than Slurm lets an array have.
std::vector<std::size_t> indices(std::string_view list) {
    static constexpr std::size_t most = 4'000'001;
    std::vector<std::size_t> out;
    list = list.substr(0, list.find('%'));
    while (!list.empty()) {
        const auto word = list.substr(0, list.find(','));
        list.remove_prefix(std::min(word.size() + 1, list.size()));
        const auto dash = std::min(word.find('-'), word.size());
        const auto first = parse_number(word.substr(0, dash));
        const auto last = dash == word.size() ? first : parse_number(word.substr(dash + 1));
        if (!first || !last || *last >= most)
            continue;
        for (auto index = *first; index <= *last; ++index)
            out.push_back(index);
    }
    return out;
}

class Job {
public:
    Job(const Plan& plan, std::span<const Machine> machines, const SlurmOptions& options, const Signals& signals)
        : plan_{plan}, machines_{machines}, options_{options}, signals_{signals}, done_(machines.size()) {}

    Result<void> submit() {
        const auto answer = ask(submit_words(plan_, machines_.size(), options_), signals_);
        if (answer.code == 127)
            return fail(Errc::unsupported, "there is no sbatch",
                        "install Slurm's clients (Debian: slurm-client) and name the cluster in slurm.conf");
        id_ = first_line(answer.out);
        id_ = id_.substr(0, id_.find(';')); // "JOB;CLUSTER"
        if (answer.code != 0 || id_.empty())
            return fail(Errc::host_error,
                        "sbatch ended with " + std::to_string(answer.code) + ": " +
                            printable(first_line(answer.errors), 400),
                        "try the same with srun, or see sinfo");
        return {};
    }
    [[nodiscard]] const std::string& id() const { return id_; }

    std::vector<Done> gather() {
        auto states_at = Clock::now() + between_states;
        while (open_ != 0) {
            pollfd wait{signals_.fd(), POLLIN, 0};
            ::poll(&wait, 1, static_cast<int>(between_files.count()));
            if (signals_.take() && !canceled_) {
                canceled_ = true;
                ask({"scancel", id_}, signals_);
            }
            read_files();
            if (open_ == 0 || Clock::now() < states_at)
                continue;
            read_states();
            states_at = Clock::now() + between_states;
        }
        std::vector<Done> out;
        for (auto& one : done_)
            out.push_back(std::move(*one));
        return out;
    }

private:
    void settle(std::size_t index, Done done) {
        done_[index] = std::move(done);
        --open_;
        if (options_.announce)
            static_cast<void>(write_all(STDERR_FILENO, verdict_text(*done_[index])));
    }
    void read_files() {
        for (std::size_t i = 0; i < machines_.size(); ++i) {
            if (done_[i])
                continue;
            const auto text = read_start(outcome_file(options_.folder, i), 256 << 20);
            if (!text)
                continue;
            auto outcome = read_outcome(*text);
            auto done = not_run(plan_, machines_[i], "");
            if (outcome)
                done.outcome = std::move(*outcome);
            else
                done.outcome.why = outcome.error().message();
            std::error_code ignored;
            std::filesystem::remove(outcome_file(options_.folder, i), ignored);
            if (done.outcome.verdict == Verdict::good) // as it leaves nothing here
                std::filesystem::remove(output_file(options_.folder, std::to_string(i)), ignored);
            settle(i, std::move(done));
        }
    }
    void read_states() {
        const auto answer = ask({"scontrol", "--oneliner", "show", "job", id_}, signals_);
        const auto states = parse_states(answer.out);
        const auto now = Clock::now();
        for (std::size_t i = 0; i < machines_.size(); ++i) {
            if (done_[i])
                continue;
            const auto state = std::ranges::find(states, i, &TaskState::index);
            // Slurm forgets a job some minutes after its end, and a task at once that is canceled before it starts; a
            // controller that does not answer forgets nothing.
            const bool forgotten = state == states.end() && answer.code == 0 && !answer.out.empty();
            const bool unknown = answer.code != 0 && answer.errors.find("Invalid job id") != answer.errors.npos;
            if (!(state != states.end() && state->is_over()) && !forgotten && !unknown) {
                over_since_.erase(i);
                continue;
            }
            const auto since = over_since_.try_emplace(i, now).first->second;
            if (now - since >= late_file)
                settle(
                    i,
                    not_run(
                        plan_, machines_[i],
                        state == states.end()
                            ? "Slurm does not know the task: it was canceled, or ended a while ago; it left no result"
                        : canceled_ ? "interrupted"
                                    : state->text()));
        }
    }

    const Plan& plan_;
    std::span<const Machine> machines_;
    const SlurmOptions& options_;
    const Signals& signals_;
    std::string id_{};
    std::vector<std::optional<Done>> done_;
    std::size_t open_{done_.size()};
    std::map<std::size_t, Clock::time_point> over_since_{};
    bool canceled_{false};
};

} // namespace

std::string outcome_file(const std::string& folder, std::size_t index) {
    return folder + "/" + std::to_string(index) + ".outcome";
}

bool TaskState::is_over() const {
    static constexpr std::string_view going_on[] = {"PENDING",    "RUNNING",   "SUSPENDED", "CONFIGURING",
                                                    "COMPLETING", "REQUEUED",  "RESIZING",  "STAGE_OUT",
                                                    "SIGNALING",  "PREEMPTED", "STOPPED"};
    return std::ranges::find(going_on, state) == std::end(going_on);
}

std::string TaskState::text() const {
    std::string out = "Slurm's task ended as " + state;
    if (signal != 0)
        out += ", by signal " + std::to_string(signal);
    else if (code != 0)
        out += ", with " + std::to_string(code);
    return out + ", and left no result";
}

std::vector<TaskState> parse_states(const std::string& text) {
    std::vector<TaskState> out;
    for (std::size_t at = 0; at < text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        const auto line = std::string_view{text}.substr(at, end - at);
        at = end + 1;
        const auto value = [&](std::string_view key) {
            const auto found = line.find(key);
            if (found == line.npos || (found != 0 && line[found - 1] != ' '))
                return std::string_view{};
            const auto rest = line.substr(found + key.size());
            return rest.substr(0, rest.find(' '));
        };
        TaskState state{.index = 0, .state = std::string{value("JobState=")}};
        const auto code = value("ExitCode=");
        const auto colon = std::min(code.find(':'), code.size());
        std::from_chars(code.data(), code.data() + colon, state.code);
        if (colon < code.size())
            std::from_chars(code.data() + colon + 1, code.data() + code.size(), state.signal);
        for (const auto index : indices(value("ArrayTaskId="))) {
            state.index = index;
            out.push_back(state);
        }
    }
    return out;
}

Result<std::vector<Done>> run_by_slurm(const Plan& plan, std::span<const Machine> machines,
                                       const SlurmOptions& options) {
    const Signals signals;
    Job job{plan, machines, options, signals};
    TRY_VOID(job.submit());
    if (options.announce)
        static_cast<void>(write_all(STDERR_FILENO, format("inox test: Slurm's job %s: %zu tasks, in %s\n",
                                                          job.id().c_str(), machines.size(), options.folder.c_str())));
    return job.gather();
}

} // namespace inox::test
