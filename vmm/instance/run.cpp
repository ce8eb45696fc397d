// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/run.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <unistd.h>
#include <utility>

#include "vmm/base/event_loop_error.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/shared_output.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/instance/confinement/confinement.hpp"
#include "vmm/instance/exits/report.hpp"
#include "vmm/instance/verdict/hang_watch.hpp"
#include "vmm/instance/verdict/result.hpp"
#include "vmm/instance/watchdog.hpp"
#include "vmm/machine/descriptors_needed.hpp"
#include "vmm/machine/preparation.hpp"

namespace inox {
namespace {

/// The watchdog's thread is made after the guest's first instruction, to save time, or when a start takes this long.
constexpr std::chrono::milliseconds quick_start{20};

Error found_error(const Findings& findings) {
    const auto first = findings.list().front();
    const auto more = findings.count() - 1;
    return make_error(Errc::guest_findings,
                      format("line %llu of the console is a failure (%s): ", hex(first.line), first.kind.c_str()) +
                          in_quotes(first.text) + (more == 0 ? "" : format("; %llu more follow", hex(more))),
                      "--result FILE lists them all; --serial-log FILE keeps the console");
}

/// "the guest powered off"
std::string how_it_ended(const GuestEnd& end, int code) {
    static constexpr const char* words[] = {"powered off", "rebooted", "exited", "failed", "was stopped"};
    if (!end.what.empty())
        return end.what;
    std::string how = std::string{"the guest "} + words[static_cast<std::size_t>(end.how)];
    if (end.error && code != 0)
        how += " (" + std::string{error_name(end.error->code)} + ")";
    return how;
}

/// Everything one run owns, on the thread that runs the loop.
class GuestRun final : private InstanceEvents {
public:
    GuestRun(ConfigFile file, Timeline& timeline, const RunPlan& plan, Confinement& confinement)
        : plan_{plan}, options_{file.run}, instance_{loop_, timeline, std::move(file), plan.identity, *this} {
        instance_.use_confinement(confinement);
    }

    Result<int> run();

private:
    void on_end(GuestEnd how) override {
        if (!end_ && (expected_seen_ || instance_.ends_as_expected()))
            on_expected(ConsoleOutput::Line::ended);
        end(std::move(how));
    }
    void on_expected(ConsoleOutput::Line line) override {
        expected_seen_ = true; // whatever ends the guest before the line ends
        if (line == ConsoleOutput::Line::ended)
            end_well("the console showed what --expect asks for");
    }
    void on_help() override { tell(ConsoleInput::keys); }
    void on_leave() override { end_well("the guest was ended from the terminal (Ctrl-A X)"); }
    void on_user_space_up() override {
        if (plan_.on_user_space_up)
            plan_.on_user_space_up();
    }
    void on_stalled(const Error& why) noexcept override { watchdog_->stalled(why); }
    void end(GuestEnd end);
    void on_signal(int signal);
    void end_well(const char* what) { end({GuestEnd::How::stopped, 0, {}, what}); }
    /// An end by a signal or the time limit: nothing is awaited for long then.
    void end_with(Error error) {
        if (expected_seen_)
            return on_expected(ConsoleOutput::Line::ended);
        stopped_from_outside_ |= !end_;
        end({GuestEnd::How::stopped, 0, std::move(error)});
    }
    void on_started(Result<void> started);
    void watch();
    void fail_with(Error error);
    void hang(GuestEnd how);
    [[nodiscard]] int report();
    [[nodiscard]] int report_end();
    [[nodiscard]] std::string closing_line(const GuestEnd& end, std::chrono::steady_clock::time_point at,
                                           int code) const;
    int print(Error error);
    [[nodiscard]] RunResult result(int code) const;
    [[nodiscard]] bool ask_to_power_off();

    const RunPlan& plan_;
    const RunOptions options_;
    EventLoop loop_;
    std::unique_ptr<Watchdog> watchdog_{}; // destroyed after the instance, whose end it watches
    Instance instance_;
    std::optional<GuestEnd> end_;
    std::optional<Error> failure_; ///< instead of an end: the guest did not start
    bool watched_{false};
    Registration long_start_;
    std::optional<Error> last_error_;  ///< that the run ends with
    std::vector<std::string> vcpus_{}; ///< where they were when the guest hung
    std::optional<GuestEnd> hang_{};   ///< to be the end
    HangWatch watch_{loop_, instance_, [this](Error why) { hang({GuestEnd::How::failed, 0, std::move(why)}); }};
    bool stopped_from_outside_{false};
    bool expected_seen_{false};
    std::atomic<std::chrono::steady_clock::time_point> started_at_{}; ///< the watchdog reads it
    std::chrono::steady_clock::time_point ended_at_{};
    bool asked_to_power_off_{false};
    Registration grace_;
};

void GuestRun::end(GuestEnd end) {
    if (end_)
        return;
    end_ = hang_ ? std::move(*hang_) : instance_.judged(std::move(end));
    // SIGTERM ends the guest either way: a small guest may have no handler for the power button's interrupt.
    if (asked_to_power_off_ && end_->error && end_->error->code == Errc::guest_triple_fault)
        end_ = {GuestEnd::How::stopped, 0,
                make_error(Errc::terminated,
                           "terminated (SIGTERM); the guest triple-faulted when its power button was pressed",
                           "leave out --grace for a guest that does not handle the ACPI power button")};
    ended_at_ = std::chrono::steady_clock::now();
    loop_.stop();
}

void GuestRun::on_signal(int signal) {
    auto error = Watchdog::end_by(signal);
    if (signal == SIGTSTP)
        return instance_.suspend_console();
    if (signal == SIGCONT)
        return instance_.resume_console();
    if (!error)
        return instance_.resize_console();
    if (signal == SIGTERM && ask_to_power_off())
        return;
    end_with(std::move(*error));
}

/// Presses the power button once; false when there is none or no grace period, or it was pressed before.
bool GuestRun::ask_to_power_off() {
    if (!options_.grace || asked_to_power_off_ || !instance_.press_power_button())
        return false;
    asked_to_power_off_ = true;
    grace_ = loop_.after(*options_.grace, [this] {
        end_with(make_error(
            Errc::terminated,
            format("terminated (SIGTERM); the guest did not power off within the %lld ms of --grace",
                   static_cast<long long>(options_.grace->count())),
            "the guest needs the ACPI button driver and a program that handles it, such as systemd-logind or acpid"));
    });
    return true;
}

/// The exit code, after what stands behind it was printed and written. A serial log with a hole, and what --fail-on
/// found, are errors of a run that was good otherwise.
int GuestRun::report() {
    for (const auto& line : vcpus_)
        tell("inox: " + line + "\n");
    int code = report_end();
    if (const auto* findings = instance_.findings(); code == 0 && findings && findings->count() != 0)
        code = print(found_error(*findings));
    if (const auto log = instance_.serial_log_result(); code == 0 && !log)
        code = print(log.error());
    if (!options_.exits.empty())
        if (const auto written = placed(write_exits(options_.exits, instance_.exit_counts()), "/inox/exits");
            !written) {
            if (code == 0)
                code = print(written.error());
            else
                print_error(written.error());
        }
    if (!options_.result.empty())
        if (const auto written = placed(write_result(options_.result, result(code)), "/inox/result"); !written) {
            print_error(written.error());
            code = code == 0 ? exit_code(written.error().code) : code;
        }
    if (const auto line = closing_line(*end_, ended_at_, code); !line.empty())
        tell(line);
    return code;
}

/// Prints the error that the run ends with.
int GuestRun::print(Error error) {
    print_error(error);
    last_error_ = std::move(error);
    return exit_code(last_error_->code);
}

/// Always the last: "inox: the guest powered off after 1.234 s"; empty where nobody wants it. Any thread.
std::string GuestRun::closing_line(const GuestEnd& end, std::chrono::steady_clock::time_point at, int code) const {
    if (!plan_.closing_line || options_.quiet)
        return {};
    const std::chrono::duration<double> seconds = at - started_at_.load();
    return format("inox: %s after %.3f s; exit code %d\n", how_it_ended(end, code).c_str(), seconds.count(), code);
}

RunResult GuestRun::result(int code) const {
    const auto at = [&](Timeline::Step step) {
        const auto ns = instance_.timeline().at(step);
        return ns == 0 ? std::nullopt : std::optional{std::chrono::duration<double>{static_cast<double>(ns) / 1e9}};
    };
    RunResult out{.how = how_it_ended(*end_, code),
                  .exit_code = code,
                  .error = last_error_,
                  .took = ended_at_ - started_at_.load(),
                  .first_instruction = at(Timeline::Step::first_instruction),
                  .user_space = at(Timeline::Step::user_space_up)};
    if (end_->how == GuestEnd::How::exited)
        out.guest_code = end_->exit_code;
    if (const auto* findings = instance_.findings()) {
        out.findings = findings->list();
        out.finding_count = findings->count();
    }
    out.vcpus = vcpus_;
    const auto& file = instance_.file();
    for (const auto& [name, path] :
         {std::pair{"serial_log", file.run.serial_log}, std::pair{"boot_timeline", file.run.boot_timeline},
          std::pair{"exits", file.run.exits},
          std::pair{"dump_on_panic", instance_.dumped_panic() ? file.run.dump_on_panic : std::string{}}})
        if (!path.empty())
            out.files.emplace_back(name, path);
    return out;
}

int GuestRun::report_end() {
    if (expected_seen_)
        return 0;
    if (end_->error)
        return print(*end_->error);
    if (!options_.expect.empty())
        return print(make_error(Errc::expect_not_seen,
                                "the guest ended before its console showed '" + options_.expect + "'",
                                "see the console output above, or keep it with --serial-log"));
    return end_->exit_code;
}

void GuestRun::fail_with(Error error) {
    failure_ = std::move(error);
    loop_.stop();
}

/// The end of a guest that hangs, which it stays whatever the kernel says to an NMI.
void GuestRun::hang(GuestEnd how) {
    if (end_ || hang_)
        return;
    vcpus_ = instance_.describe_vcpus();
    hang_ = instance_.judged(std::move(how));
    instance_.ignore_findings();
    const bool panicked = hang_->error && hang_->error->code == Errc::guest_panic; // and has said all
    if (panicked || !watch_.ask_kernel([this] { end(*hang_); }))
        end(*hang_);
}

void GuestRun::on_started(Result<void> started) {
    if (end_)
        return; // the end came first, in the same turn
    if (!started)
        return fail_with(std::move(started).error());
    started_at_ = std::chrono::steady_clock::now();
    if (options_.quiet_for)
        watch_.expect_words(*options_.quiet_for);
    if (std::ranges::find(options_.fail_on, Findings::kernel_word) != options_.fail_on.end())
        watch_.expect_interrupts();
    if (plan_.on_started)
        plan_.on_started();
    watch();
}

/// Starts the watchdog, which takes signals and the time limit.
void GuestRun::watch() {
    if (std::exchange(watched_, true))
        return;
    auto watching = watchdog_->start();
    if (watching)
        return;
    // A guest that runs already ends as it does for any other reason.
    if (instance_.state() == Instance::State::not_started)
        fail_with(std::move(watching).error());
    else
        end({GuestEnd::How::failed, 0, std::move(watching).error()});
}

Result<int> GuestRun::run() {
    watchdog_ = TRY(
        Watchdog::create(loop_, {.timeout = options_.timeout,
                                 .on_signal = [this](int signal) { on_signal(signal); },
                                 .on_timeout =
                                     [this] {
                                         stopped_from_outside_ |= !end_;
                                         hang({GuestEnd::How::stopped, 0, Watchdog::end_by_timeout(*options_.timeout)});
                                     },
                                 .last_words =
                                     [this](const Error& why) {
                                         return closing_line({GuestEnd::How::stopped, 0, why},
                                                             std::chrono::steady_clock::now(), exit_code(why.code));
                                     }}));
    if (plan_.closing_line && !options_.quiet && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1)
        tell("inox: Ctrl-A X ends the guest, Ctrl-A H lists the keys\n");
    Registration companion;
    if (plan_.companion)
        companion = TRY(plan_.companion(loop_, instance_));
    started_at_ = std::chrono::steady_clock::now();
    if (plan_.start_now) {
        if (plan_.before_start)
            plan_.before_start(instance_);
        instance_.start([this](Result<void> started) { on_started(std::move(started)); });
        long_start_ = loop_.after(quick_start, [this] { watch(); });
    } else {
        watch();
    }
    loop_.run();
    if (failure_) {
        instance_.end({GuestEnd::How::failed, 0, *failure_});
        return std::unexpected{std::move(*failure_)};
    }
    if (stopped_from_outside_)
        watchdog_->ending(*end_->error, instance_.starting() ? Watchdog::unfinished_start : Watchdog::devices);
    else if (end_->error && end_->error->code == Errc::page_server)
        watchdog_->ending(*end_->error, Watchdog::lost_memory);
    instance_.end(*end_);
    companion.reset();
    instance_.await_start(); // the API has closed; only the watchdog limits this wait
    return report();
}

/// The constructor of an event loop throws when there are no descriptors left.
Result<int> run_guest(const ConfigFile& file, Timeline& timeline, const RunPlan& plan, Confinement& confinement) {
    try {
        GuestRun guest{file, timeline, plan, confinement};
        return guest.run();
    } catch (const std::exception& thrown) {
        const int error = loop_errno(thrown);
        if (error == 0)
            throw;
        return std::unexpected<Error>{Error{Errc::host_error, "cannot make an event loop", {}, {}, error}};
    }
}

/// Of what is written at the end: nobody shall miss it then.
Result<void> check_reports(const RunOptions& options) {
    if (!options.boot_timeline.empty())
        TRY_VOID(placed(check_output(options.boot_timeline), "/inox/boot_timeline"));
    if (!options.result.empty())
        TRY_VOID(placed(check_output(options.result), "/inox/result"));
    if (!options.exits.empty())
        TRY_VOID(placed(check_output(options.exits), "/inox/exits"));
    if (!options.dump_on_panic.empty())
        TRY_VOID(placed(CoreDump::check(options.dump_on_panic), "/inox/dump_on_panic"));
    return {};
}

} // namespace

void tell(std::string_view text) { (void)shared_error().write_within(text, std::chrono::milliseconds{250}); }

void print_error(const Error& error) { tell(error.report()); }

int run(ConfigFile file, Timeline& timeline, const RunPlan& plan) {
    const std::string drawing = file.run.boot_timeline;
    if (auto checked = check_reports(file.run); !checked)
        return plan.start_failed(std::move(checked).error());
    auto confinement = plan.confine(file);
    if (!confinement)
        return plan.start_failed(std::move(confinement).error());
    auto result = run_guest(file, timeline, plan, **confinement);
    timeline.mark(Timeline::Step::ended);
    const bool started = result.has_value();
    int code = started ? *result : plan.start_failed(with_descriptor_limit(std::move(result).error(), file));
    if (started && !drawing.empty())
        if (auto saved = timeline.save(drawing); !saved) {
            print_error(saved.error());
            code = code == 0 ? exit_code(saved.error().code) : code;
        }
    return code;
}

} // namespace inox
