// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/run.hpp"

#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/log.hpp"
#include "vmm/machine/console_input.hpp"
#include "vmm/machine/console_output.hpp"
#include "vmm/machine/console_port.hpp"
#include "vmm/machine/machine.hpp"

namespace vmm {
namespace {

/// Signals as readable events; blocked for every thread made after this.
class Signals {
public:
    static Result<Signals> create() {
        sigset_t set;
        ::sigemptyset(&set);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGWINCH})
            ::sigaddset(&set, signal);
        ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
        ::signal(SIGPIPE, SIG_IGN); // NOLINT: a reader that leaves must not end the guest
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
    Session(const RunOptions& options, Timeline& timeline) : options_{options}, timeline_{timeline} {}

    Result<int> run(const Config& config);

private:
    Result<void> prepare_output();
    void end(GuestEnd end);
    void on_signal(unsigned signal);
    void end_with(Error error) { end({GuestEnd::How::failed, 0, std::move(error)}); }
    [[nodiscard]] int report();

    const RunOptions& options_;
    Timeline& timeline_;
    EventLoop loop_;
    std::unique_ptr<RunGate> gate_;
    std::unique_ptr<ConsoleOutput> output_;
    std::unique_ptr<ConsolePort> console_;
    std::unique_ptr<Machine> machine_;
    std::optional<GuestEnd> end_;
    bool expected_seen_{false};
};

Result<void> Session::prepare_output() {
    output_ = std::make_unique<ConsoleOutput>(STDOUT_FILENO, *gate_, timeline_);
    if (!options_.serial_log.empty())
        output_->log_to(TRY(open_file(options_.serial_log, O_WRONLY | O_CREAT | O_TRUNC, Errc::output_unwritable)));
    if (!options_.expect.empty())
        output_->expect(TRY(Expect::create(options_.expect)), [this] {
            loop_.post([this] {
                expected_seen_ = true;
                end({});
            });
        });
    return {};
}

void Session::end(GuestEnd end) {
    if (end_)
        return;
    end_ = std::move(end);
    loop_.stop();
}

void Session::on_signal(unsigned signal) {
    if (signal == SIGWINCH) {
        if (console_ && console_->on_terminal())
            machine_->console()->resize(terminal_size(STDIN_FILENO));
    } else if (signal == SIGINT) {
        end_with({Errc::interrupted, "interrupted (SIGINT)", {}, {}, 0});
    } else if (signal != 0) {
        end_with({Errc::terminated, "terminated by a signal", {}, {}, 0});
    }
}

int Session::report() {
    if (expected_seen_)
        return 0;
    if (end_->how == GuestEnd::How::failed) {
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
    if (!options_.quiet && end_->how == GuestEnd::How::exited && end_->exit_code != 0)
        std::fprintf(stderr, "inox: the guest ended with exit code %u\n", end_->exit_code);
    return end_->exit_code;
}

Result<int> Session::run(const Config& config) {
    const auto signals = TRY(Signals::create());
    gate_ = TRY(RunGate::create());
    TRY_VOID(prepare_output());
    if (config.console)
        console_ = TRY(ConsolePort::create(*config.console, loop_, *output_));
    const bool on_hvc = console_ && console_->on_terminal();
    std::unique_ptr<ConsoleInput> input;
    const auto room = [&] {
        if (input)
            input->on_room();
    };
    machine_ = TRY(Machine::create(config, loop_, timeline_, *gate_,
                                   {[this](std::span<const std::byte> bytes) { output_->write(bytes); }, room,
                                    [this](std::span<const std::byte> bytes) { return console_->take(bytes); }, room,
                                    [this](GuestEnd how) { end(std::move(how)); }}));
    if (console_)
        console_->connect(*machine_->console());
    if (on_hvc)
        machine_->console()->resize(terminal_size(STDIN_FILENO));
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
    RawTerminal terminal{STDIN_FILENO};
    TRY_VOID(machine_->start());
    input = std::make_unique<ConsoleInput>(loop_, STDIN_FILENO, terminal.active(),
                                           ConsoleInput::Guest{[this, on_hvc](auto bytes) {
                                                                   return on_hvc ? machine_->console()->receive(bytes)
                                                                                 : machine_->serial_input(bytes);
                                                               },
                                                               [this] { end({}); }});
    input->start();
    loop_.run();
    machine_->stop();
    output_->flush();
    terminal.restore();
    return report();
}

} // namespace

void print_error(const Error& error) { (void)write_all(STDERR_FILENO, error.report()); }

int run(const Config& config, const RunOptions& options, Timeline& timeline) {
    Session session{options, timeline};
    auto result = session.run(config);
    timeline.mark(Timeline::Step::ended);
    int code = 0;
    if (result) {
        code = *result;
    } else {
        print_error(result.error());
        code = exit_code(result.error().code);
    }
    if (!options.boot_timeline.empty())
        if (auto saved = timeline.save(options.boot_timeline); !saved) {
            print_error(saved.error());
            code = code == 0 ? exit_code(saved.error().code) : code;
        }
    return code;
}

} // namespace vmm
