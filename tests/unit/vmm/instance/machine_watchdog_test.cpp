// SPDX-License-Identifier: Apache-2.0
// A process whose loop or whose end hangs still ends by signals and by its time limit. Each case has a child process.
#include "vmm/instance/watchdog.hpp"

#include <csignal>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/support/terminal.hpp"
#include "vmm/instance/raw_terminal.hpp"

namespace inox::machine_watchdog_test {

using namespace std::chrono_literals;

namespace {

struct Ended {
    int code{-1}; ///< 1000 + signal when a signal ended it
    std::string said{};
    std::chrono::milliseconds took{}; ///< from the signal, or from the start
};

/// Runs `child(loop, ready)` in a process of its own. Once it called ready(), `signal` is sent, unless it is 0.
template <class F> Ended in_child(int signal, F child) {
    int out[2]{}, ready[2]{};
    REQUIRE(::pipe(out) == 0);
    REQUIRE(::pipe(ready) == 0);
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        ::dup2(out[1], STDERR_FILENO);
        EventLoop loop;
        child(loop, [&] { (void)!::write(ready[1], "r", 1); });
        ::_exit(0);
    }
    ::close(out[1]);
    ::close(ready[1]);
    char byte = 0;
    CHECK(::read(ready[0], &byte, 1) == 1);
    const auto start = std::chrono::steady_clock::now();
    if (signal != 0)
        ::kill(pid, signal);
    Ended ended;
    std::array<char, 4096> text{};
    // The end of the text is the end of the process. The test's runner ends a test that hangs.
    for (ssize_t got = 0; (got = ::read(out[0], text.data(), text.size())) > 0;)
        ended.said.append(text.data(), static_cast<std::size_t>(got));
    int status = 0;
    ::waitpid(pid, &status, 0);
    ended.took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
    ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    ::close(out[0]);
    ::close(ready[0]);
    return ended;
}

void hang() {
    for (;;)
        std::this_thread::sleep_for(1s); // like a system call that does not return
}

/// What GuestRun does when it is notified: it stops the loop.
Watchdog::Options stopping(EventLoop& loop, std::vector<int>& signals) {
    return {.hears_within = 100ms,
            .on_signal =
                [&](int signal) {
                    signals.push_back(signal);
                    if (Watchdog::end_by(signal))
                        loop.stop();
                },
            .on_timeout = [&] { loop.stop(); }};
}

/// A loop that hangs once `ready` was called, under a watchdog.
template <class Ready> void run_hanging(EventLoop& loop, Watchdog::Options options, const Ready& ready) {
    auto dog = *Watchdog::create(loop, std::move(options));
    loop.post([&] { // before a time limit that is short can stop the loop
        ready();
        hang();
    });
    (void)dog->start();
    loop.run();
}

} // namespace

TEST_CASE("a loop that hangs does not keep a signal from ending the process, with its documented code") {
    struct Row {
        int signal;
        int code;
        const char* text;
    };
    const auto row = GENERATE(values<Row>({{SIGTERM, 143, "terminated (SIGTERM)"},
                                           {SIGINT, 130, "interrupted (SIGINT)"},
                                           {SIGHUP, 143, "terminated (SIGHUP)"},
                                           {SIGQUIT, 143, "terminated (SIGQUIT)"}}));
    const auto ended = in_child(row.signal, [](EventLoop& loop, const auto& ready) {
        std::vector<int> signals;
        run_hanging(loop, stopping(loop, signals), ready);
    });
    CHECK(ended.code == row.code);
    CHECK_THAT(ended.said, Catch::Contains(row.text) && Catch::Contains("the device loop did not answer in time"));
    CHECK(ended.took >= 100ms);
}

TEST_CASE("a loop that hangs does not keep the time limit from ending the process") {
    const auto ended = in_child(0, [](EventLoop& loop, const auto& ready) {
        std::vector<int> signals;
        auto options = stopping(loop, signals);
        options.timeout = 50ms;
        run_hanging(loop, std::move(options), ready);
    });
    CHECK(ended.code == 124);
    CHECK_THAT(ended.said, Catch::Contains("did not end within 50 ms"));
}

TEST_CASE("a loop that works hears of signals and the time limit, and ends in its own way") {
    const bool by_signal = GENERATE(true, false);
    const auto ended = in_child(by_signal ? SIGTERM : 0, [&](EventLoop& loop, const auto& ready) {
        std::vector<int> signals;
        auto options = stopping(loop, signals);
        if (!by_signal)
            options.timeout = 50ms;
        auto dog = *Watchdog::create(loop, std::move(options));
        (void)dog->start();
        loop.post([&] { ready(); });
        loop.run();
        ::_exit(signals.size() == (by_signal ? 1 : 0) ? 42 : 1);
    });
    CHECK(ended.code == 42);
    CHECK(ended.said.empty());
}

TEST_CASE("signals that came before the thread are not lost") {
    const auto ended = in_child(0, [](EventLoop& loop, const auto& ready) {
        std::vector<int> signals;
        auto dog = *Watchdog::create(loop, stopping(loop, signals));
        ::kill(::getpid(), SIGTERM);
        (void)dog->start();
        ready();
        loop.run();
        ::_exit(signals == std::vector{SIGTERM} ? 42 : 1);
    });
    CHECK(ended.code == 42);
}

TEST_CASE("an end that was asked for and hangs is ended; one that comes to its end is not") {
    const bool hangs = GENERATE(true, false);
    const auto ended = in_child(SIGTERM, [&](EventLoop& loop, const auto& ready) {
        std::vector<int> signals;
        auto dog = *Watchdog::create(loop, stopping(loop, signals));
        (void)dog->start();
        loop.post([&] { ready(); });
        loop.run();
        dog->ending(*Watchdog::end_by(SIGTERM), {200ms, "the rest did not come"});
        if (hangs)
            hang();
        dog.reset();
        std::this_thread::sleep_for(400ms); // no thread is left that would end the process
        ::_exit(42);
    });
    CHECK(ended.code == (hangs ? 143 : 42));
    CHECK(ended.said.empty() == !hangs);
    if (hangs)
        CHECK_THAT(ended.said, Catch::Contains("because the rest did not come in time"));
}

TEST_CASE("a signal during an end that nobody hurried ends the process, too") {
    const auto ended = in_child(SIGTERM, [](EventLoop& loop, const auto& ready) {
        std::vector<int> signals;
        auto dog = *Watchdog::create(loop, stopping(loop, signals));
        (void)dog->start();
        loop.post([&] { loop.stop(); }); // the guest powered off
        loop.run();
        ready();
        hang();
    });
    CHECK(ended.code == 143);
}

TEST_CASE("a terminal's new size reaches the loop once, however often it changed, and ends nothing") {
    const auto ended = in_child(0, [](EventLoop& loop, const auto& ready) {
        std::vector<int> signals;
        auto dog = *Watchdog::create(loop, stopping(loop, signals));
        (void)dog->start();
        loop.post([&] {
            for (int i = 0; i < 50; ++i) {
                ::kill(::getpid(), SIGWINCH);
                std::this_thread::sleep_for(5ms);
            }
            loop.post([&] { loop.post([&] { loop.stop(); }); });
        });
        ready();
        loop.run();
        ::_exit(signals == std::vector{SIGWINCH} ? 42 : 1);
    });
    CHECK(ended.code == 42);
    CHECK(ended.said.empty());
}

TEST_CASE("a process that the watchdog ends has its last words") {
    const auto ended = in_child(SIGTERM, [](EventLoop& loop, const auto& ready) {
        std::vector<int> signals;
        auto options = stopping(loop, signals);
        options.last_words = [](const Error& why) { return "the last line: " + why.what + "\n"; };
        run_hanging(loop, std::move(options), ready);
    });
    CHECK(ended.code == 143);
    CHECK_THAT(ended.said, Catch::EndsWith("the last line: terminated (SIGTERM)\n"));
}

TEST_CASE("a SIGCONT that comes while the loop prepares a stop takes the stop back") {
    const auto ended = in_child(0, [](EventLoop& loop, const auto& ready) {
        ::setpgid(0, 0); // else the kernel may refuse to stop it
        std::vector<int> signals;
        Registration end;
        auto options = stopping(loop, signals);
        options.on_signal = [&](int signal) {
            signals.push_back(signal);
            if (signal == SIGTSTP) {
                ::kill(::getpid(), SIGCONT);
                std::this_thread::sleep_for(50ms); // the watchdog sees it
            } else {
                end = loop.after(50ms, [&] { loop.stop(); });
            }
        };
        auto dog = *Watchdog::create(loop, std::move(options));
        (void)dog->start();
        loop.post([] { ::kill(::getpid(), SIGTSTP); });
        ready();
        loop.run();
        ::_exit(signals.size() >= 2 && signals[0] == SIGTSTP && signals[1] == SIGCONT ? 42 : 1);
    });
    CHECK(ended.code == 42);
}

TEST_CASE("a process that is ended so gives its terminal back") {
    int master = -1, slave = -1;
    REQUIRE(::openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
    REQUIRE(tests::lines_are_edited(master));
    const auto ended = in_child(0, [&](EventLoop& loop, const auto& ready) {
        RawTerminal raw{slave};
        raw.take();
        if (tests::lines_are_edited(master))
            ::_exit(1);
        std::vector<int> signals;
        auto options = stopping(loop, signals);
        options.timeout = 20ms;
        run_hanging(loop, std::move(options), ready);
    });
    CHECK(ended.code == 124);
    CHECK(tests::lines_are_edited(master));
    ::close(master);
    ::close(slave);
}

} // namespace inox::machine_watchdog_test
