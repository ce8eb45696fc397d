// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/watchdog.hpp"

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/shared_output.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/instance/raw_terminal.hpp"

namespace inox {
namespace {

constexpr std::chrono::milliseconds most_stall{100};
constexpr std::chrono::milliseconds patience{25}; ///< for the reader of standard error

sigset_t set_of(std::initializer_list<int> signals) {
    sigset_t set;
    ::sigemptyset(&set);
    for (const int signal : signals)
        ::sigaddset(&set, signal);
    return set;
}

} // namespace

Result<std::unique_ptr<Watchdog>> Watchdog::create(EventLoop& loop, Options options) {
    const auto set = set_of({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT});
    const auto stop = set_of({SIGTSTP});
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::pthread_sigmask(SIG_BLOCK, &stop, nullptr);
    // A background job that reads or writes the terminal would be stopped, with its guest and its API.
    ::signal(SIGTTIN, SIG_IGN); // NOLINT: reads fail instead
    ::signal(SIGTTOU, SIG_IGN); // NOLINT: writes succeed
    ::signal(SIGPIPE, SIG_IGN); // NOLINT: a reader that leaves must not end the guest
    ::signal(SIGXFSZ, SIG_IGN); // NOLINT: nor must a file at its size limit (ulimit -f); writes fail then
    UniqueFd fd{::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
    UniqueFd stops{::signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK)};
    if (!fd || !stops)
        return fail_errno(Errc::host_error, "signalfd failed");
    auto event = TRY(EventFd::create());
    return std::unique_ptr<Watchdog>{
        new Watchdog{loop, std::move(options), std::move(fd), std::move(stops), std::move(event)}};
}

Watchdog::Watchdog(EventLoop& loop, Options options, UniqueFd signals, UniqueFd stops, EventFd woken)
    : loop_{loop}, options_{std::move(options)}, signals_{std::move(signals)}, stops_{std::move(stops)},
      woken_{std::move(woken)} {}

Watchdog::~Watchdog() {
    stop_ = true;
    woken_.signal();
    if (thread_.joinable())
        thread_.join();
}

Result<void> Watchdog::start() {
    if (options_.timeout)
        time_is_up_ = Clock::now() + *options_.timeout;
    try {
        thread_ = std::thread{[this] { watch(); }};
    } catch (const std::system_error& error) {
        return fail_thread("the watchdog's thread", error);
    }
    return {};
}

std::optional<Error> Watchdog::end_by(int signal) {
    if (signal == SIGINT)
        return make_error(Errc::interrupted, "interrupted (SIGINT)");
    if (signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT)
        return make_error(Errc::terminated, format("terminated (SIG%s)", ::sigabbrev_np(signal)));
    return std::nullopt;
}

Error Watchdog::end_by_timeout(std::chrono::milliseconds limit) {
    return make_error(Errc::timed_out,
                      format("the guest did not end within %lld ms", static_cast<long long>(limit.count())),
                      "give it more time with --timeout, or look at its console to see where it hangs");
}

void Watchdog::ending(const Error& why, Rest rest) {
    ending_error_ = why;
    rest_ = rest;
    ending_ = &*ending_error_;
    woken_.signal();
}

void Watchdog::stalled(const Error& why) {
    const std::lock_guard lock{stalled_mutex_};
    stalled_ = why;
    woken_.signal();
}

// The thread

void Watchdog::watch() {
    sigset_t all; // with SIGTTOU, so that the terminal is restored from the background, too
    ::sigfillset(&all);
    ::sigdelset(&all, SIGSYS); // a system call that this thread may not make
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    enter_thread(ThreadKind::watchdog, "watchdog");
    while (!stop_) {
        std::array<pollfd, 3> polls{
            {{signals_.get(), POLLIN, 0}, {woken_.fd(), POLLIN, 0}, {stopping_ ? -1 : stops_.get(), POLLIN, 0}}};
        ::poll(polls.data(), polls.size(), milliseconds_left());
        if (stop_)
            return;
        if (polls[1].revents != 0) {
            woken_.drain();
            if (const Error* error = ending_.exchange(nullptr)) {
                why_ = *error;
                ends_ = true;
                give_up_ = Clock::now() + rest_.within;
            }
            if (may_stop_.exchange(false))
                stop_process();
            const std::lock_guard lock{stalled_mutex_};
            if (auto why = std::exchange(stalled_, std::nullopt))
                ask(
                    std::move(*why), [] {}, most_stall);
        }
        if (polls[2].revents != 0) {
            stopping_ = true;
            tell_once(SIGTSTP);
        }
        if (polls[0].revents != 0)
            on_readable();
        const auto now = Clock::now();
        if (time_is_up_ && now >= *time_is_up_) {
            time_is_up_.reset();
            ask(end_by_timeout(*options_.timeout), options_.on_timeout, options_.hears_within);
        }
        if (!give_up_ || now < *give_up_)
            continue;
        if (ends_)
            end_process(rest_.late);
        if (!shared_->heard)
            end_process("the device loop did not answer");
        give_up_.reset();
    }
}

int Watchdog::milliseconds_left() const {
    auto first = Clock::time_point::max();
    for (const auto& one : {time_is_up_, give_up_})
        first = std::min(first, one.value_or(first));
    if (first == Clock::time_point::max())
        return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(first - Clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, INT_MAX));
}

void Watchdog::on_readable() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != sizeof info)
        return;
    const int signal = static_cast<int>(info.ssi_signo);
    if (auto error = end_by(signal))
        return ask(
            std::move(*error), [this, signal] { options_.on_signal(signal); }, options_.hears_within);
    tell_once(signal);
}

/// Unless the loop has yet to hear of an earlier one.
void Watchdog::tell_once(int signal) {
    const std::uint64_t bit = std::uint64_t{1} << signal;
    if ((shared_->waiting.fetch_or(bit) & bit) == 0)
        loop_.post_urgent([this, shared = shared_, bit, signal] {
            shared->waiting &= ~bit;
            options_.on_signal(signal);
            if (signal == SIGTSTP) {
                may_stop_ = true;
                woken_.signal();
            }
        });
}

/// What SIGTSTP does by default, done by the signal that still waits: if a SIGCONT came since then, the kernel has
/// taken it back. A process that nobody could continue does not stop at all, and gets no SIGCONT.
void Watchdog::stop_process() {
    const auto stop = set_of({SIGTSTP});
    ::pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
    ::pthread_sigmask(SIG_BLOCK, &stop, nullptr);
    stopping_ = false;
    tell_once(SIGCONT);
}

/// The first reason stands: asking again neither extends the deadline nor makes the loop's list grow.
void Watchdog::ask(Error why, std::function<void()> tell, std::chrono::milliseconds hears_within) {
    if (give_up_ && (ends_ || !shared_->heard))
        return;
    if (!ends_ && !why_)
        why_ = std::move(why);
    shared_->heard = false;
    give_up_ = Clock::now() + hears_within;
    loop_.post_urgent([shared = shared_, tell = std::move(tell)] {
        shared->heard = true;
        tell();
    });
}

/// Prints one line like any error's, and leaves the rest of the cleaning up to the kernel.
void Watchdog::end_process(const char* what) const {
    restore_terminal();
    Error error = *why_;
    error.hint = std::string{"ended without an orderly stop, because "} + what + " in time";
    auto text = error.report();
    if (options_.last_words)
        text += options_.last_words(error);
    (void)SharedOutput{STDERR_FILENO}.write_within(text, patience); // a pipe may be full
    ::_exit(exit_code(error.code));
}

} // namespace inox
