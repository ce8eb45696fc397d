// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/run.hpp"

#include <csignal>
#include <cstdio>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/os.hpp"
#include "vmm/machine/preparation.hpp"

namespace vmm {
namespace {

/// Signals as readable events; blocked for every thread made after this.
class Signals {
public:
    static Result<Signals> create() {
        sigset_t set;
        ::sigemptyset(&set);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH})
            ::sigaddset(&set, signal);
        ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
        ::signal(SIGPIPE, SIG_IGN); // NOLINT: a reader that leaves must not end the guest
        ::signal(SIGXFSZ, SIG_IGN); // NOLINT: nor must a file at its size limit (ulimit -f); writes fail then
        UniqueFd fd{::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
        if (!fd)
            return fail_errno(Errc::host_error, "signalfd failed");
        return Signals{std::move(fd)};
    }
    [[nodiscard]] int fd() const { return fd_.get(); }
    /// The number of the next one; 0 when there is none.
    [[nodiscard]] unsigned take() const {
        signalfd_siginfo info{};
        return ::read(fd_.get(), &info, sizeof info) == sizeof info ? info.ssi_signo : 0;
    }

private:
    explicit Signals(UniqueFd fd) : fd_{std::move(fd)} {}
    UniqueFd fd_;
};

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
    void on_signal(unsigned signal);
    void end_well(const char* what) { end({GuestEnd::How::stopped, 0, {}, what}); }
    void end_with(Error error) { end({GuestEnd::How::stopped, 0, std::move(error)}); }
    [[nodiscard]] int report();
    [[nodiscard]] int report_end();

    const RunOptions options_;
    EventLoop loop_;
    Instance instance_;
    std::optional<GuestEnd> end_;
    bool expected_seen_{false};
    bool left_{false}; ///< by Ctrl-A X
};

void Session::end(GuestEnd end) {
    if (end_)
        return;
    end_ = std::move(end);
    loop_.stop();
}

void Session::on_signal(unsigned signal) {
    if (signal == SIGWINCH)
        instance_.resize_console();
    else if (signal == SIGINT)
        end_with({Errc::interrupted, "interrupted (SIGINT)", {}, {}, 0});
    else if (signal != 0)
        end_with({Errc::terminated, format("terminated (SIG%s)", ::sigabbrev_np(static_cast<int>(signal))), {}, {}, 0});
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
    const auto signals = TRY(Signals::create());
    Registration companion;
    if (plan.companion)
        companion = TRY(plan.companion(loop_, instance_));
    auto signal_watch = TRY(loop_.watch(signals.fd(), [&] { on_signal(signals.take()); }));
    Registration deadline;
    if (options_.timeout)
        deadline = loop_.after(*options_.timeout, [this] {
            end_with({Errc::timed_out,
                      format("the guest did not end within %lld ms", static_cast<long long>(options_.timeout->count())),
                      "give it more time with --timeout, or see its console for where it hangs",
                      {},
                      0});
        });
    if (plan.start_now) {
        if (auto started = instance_.start(); !started) {
            instance_.end({GuestEnd::How::failed, 0, started.error()});
            return std::unexpected{std::move(started).error()};
        }
        if (plan.on_started)
            plan.on_started();
    }
    loop_.run();
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
