// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/run.hpp"

#include <cstdio>
#include <unistd.h>

#include "vmm/base/os.hpp"
#include "vmm/machine/preparation.hpp"
#include "vmm/machine/watchdog.hpp"

namespace vmm {
namespace {

/// Everything one run owns, on the thread that runs the loop.
class Session {
public:
    Session(ConfigFile file, Timeline& timeline, const RunPlan& plan)
        : options_{file.run}, instance_{loop_,
                                        timeline,
                                        std::move(file),
                                        plan.identity,
                                        {[this](GuestEnd how) { end(std::move(how)); },
                                         [this] {
                                             expected_seen_ = true;
                                             end_well("the console showed what --expect asks for");
                                         },
                                         [this] {
                                             left_ = true;
                                             end_well("ended from the terminal (Ctrl-A X)");
                                         }}} {}

    Result<int> run(const RunPlan& plan);

private:
    void end(GuestEnd end);
    void on_signal(int signal);
    void end_well(const char* what) { end({GuestEnd::How::stopped, 0, {}, what}); }
    /// By a signal or the time limit: nobody waits for long then.
    void end_with(Error error) {
        stopped_from_outside_ |= !end_;
        end({GuestEnd::How::stopped, 0, std::move(error)});
    }
    [[nodiscard]] int report();
    [[nodiscard]] int report_end();

    const RunOptions options_;
    EventLoop loop_;
    std::unique_ptr<Watchdog> watchdog_{}; // goes after what it watches the end of
    Instance instance_;
    std::optional<GuestEnd> end_;
    bool stopped_from_outside_{false};
    bool expected_seen_{false};
    bool left_{false}; ///< by Ctrl-A X
};

void Session::end(GuestEnd end) {
    if (end_)
        return;
    end_ = std::move(end);
    loop_.stop();
}

void Session::on_signal(int signal) {
    if (auto error = Watchdog::end_by(signal))
        end_with(std::move(*error));
    else
        instance_.resize_console();
}

/// A serial log with a hole is an error of a run that was good otherwise.
int Session::report() {
    const int code = report_end();
    if (code != 0)
        return code;
    const auto log = instance_.serial_log_result();
    if (log)
        return 0;
    print_error(log.error());
    return exit_code(log.error().code);
}

int Session::report_end() {
    if (expected_seen_)
        return 0;
    if (end_->error) {
        print_error(*end_->error);
        return exit_code(end_->error->code);
    }
    if (!options_.expect.empty()) {
        const Error error{Errc::expect_not_seen,
                          "the guest ended before its console showed '" + options_.expect + "'",
                          "see the console output above, or keep it with --serial-log",
                          {},
                          0};
        print_error(error);
        return exit_code(error.code);
    }
    if (!options_.quiet && left_)
        std::fputs("inox: the guest was ended from the terminal (Ctrl-A X)\n", stderr);
    if (!options_.quiet && end_->how == GuestEnd::How::exited && end_->exit_code != 0)
        std::fprintf(stderr, "inox: the guest ended with exit code %u\n", end_->exit_code);
    return end_->exit_code;
}

Result<int> Session::run(const RunPlan& plan) {
    watchdog_ =
        TRY(Watchdog::create(loop_, {.timeout = options_.timeout,
                                     .on_signal = [this](int signal) { on_signal(signal); },
                                     .on_timeout = [this] { end_with(Watchdog::end_by_timeout(*options_.timeout)); }}));
    Registration companion;
    if (plan.companion)
        companion = TRY(plan.companion(loop_, instance_));
    if (plan.start_now) {
        if (auto started = instance_.start(); !started) {
            instance_.end({GuestEnd::How::failed, 0, started.error()});
            return std::unexpected{std::move(started).error()};
        }
        if (plan.on_started)
            plan.on_started();
    }
    TRY_VOID(watchdog_->start());
    loop_.run();
    if (stopped_from_outside_)
        watchdog_->ending(*end_->error);
    instance_.end(*end_);
    companion.reset();
    return report();
}

} // namespace

void print_error(const Error& error) { (void)write_all(STDERR_FILENO, error.report()); }

int run(ConfigFile file, Timeline& timeline, const RunPlan& plan) {
    const std::string drawing = file.run.boot_timeline;
    if (!drawing.empty())
        if (auto checked = placed(check_output(drawing), "/inox/boot_timeline"); !checked)
            return plan.start_failed(std::move(checked).error());
    int code = 0;
    {
        Session session{std::move(file), timeline, plan};
        auto result = session.run(plan);
        timeline.mark(Timeline::Step::ended);
        if (result) {
            code = *result;
        } else {
            code = plan.start_failed(std::move(result).error());
        }
    }
    if (!drawing.empty())
        if (auto saved = timeline.save(drawing); !saved) {
            print_error(saved.error());
            code = code == 0 ? exit_code(saved.error().code) : code;
        }
    return code;
}

} // namespace vmm
