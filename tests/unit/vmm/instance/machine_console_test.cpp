// SPDX-License-Identifier: Apache-2.0
// The console on the host's side: a terminal shared with a shell, and a reader that does not read.
#include "vmm/instance/console_input.hpp"
#include "vmm/instance/console_output.hpp"

#include <fcntl.h>
#include <pty.h>

#include <random>

#include "tests/catch.hpp"
#include "tests/support/job.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::machine_console_test {

using namespace std::chrono_literals;
using tests::JobShell;

namespace {

struct Pipe {
    Pipe() { (void)!::pipe2(ends.data(), O_CLOEXEC); }
    ~Pipe() {
        ::close(ends[0]);
        ::close(ends[1]);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    /// What the pipe contains at the moment.
    std::string take() const {
        ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
        std::string text(1 << 20, 0);
        const auto got = ::read(ends[0], text.data(), text.size());
        text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
        return text;
    }
    std::array<int, 2> ends{};
};

template <class F> bool eventually(F done, std::chrono::milliseconds limit = 20s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < end) {
        if (done())
            return true;
        std::this_thread::sleep_for(2ms);
    }
    return false;
}

/// Reads the terminal as a guest's console does. Writes what it receives, and a dot at intervals while its loop runs.
void be_a_console(int heard) {
    EventLoop loop;
    RawTerminal terminal{STDIN_FILENO};
    terminal.take();
    ConsoleInput input{loop,
                       STDIN_FILENO,
                       terminal,
                       {[&](std::span<const std::byte> bytes) {
                            (void)!::write(heard, bytes.data(), bytes.size());
                            if (bytes.back() == std::byte{'q'})
                                loop.stop();
                            return bytes.size();
                        },
                        [] {}, [&] { (void)!::write(heard, "<?>", 3); }}};
    input.start();
    Registration timer;
    std::function<void()> tick = [&] {
        (void)!::write(heard, ".", 1);
        timer = loop.after(20ms, tick);
    };
    tick();
    loop.run();
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span{text}); }

struct Output {
    explicit Output(int fd, ConsoleOverflow overflow) : console{fd, *gate, timeline, overflow} {}
    std::unique_ptr<RunGate> gate{*RunGate::create()};
    Timeline timeline{};
    ConsoleOutput console;
};

} // namespace

TEST_CASE("a console in the background of a terminal runs, leaves the terminal alone, and takes it in front") {
    const Pipe heard;
    JobShell shell{[&] { be_a_console(heard.ends[1]); }};
    std::string all;
    const auto ticks_on = [&] {
        (void)heard.take();
        return eventually([&] { return heard.take().find('.') != std::string::npos; });
    };
    const auto hears = [&](const std::string& what) {
        return eventually([&] { return (all += heard.take()).find(what) != std::string::npos; });
    };
    CHECK(ticks_on());
    std::this_thread::sleep_for(400ms);
    CHECK(ticks_on());
    CHECK_FALSE(shell.stopped());
    CHECK(shell.cooked());
    shell.to_front();
    CHECK(eventually([&] { return !shell.cooked(); }));
    shell.type("a");
    CHECK(hears("a"));
    shell.type("\x01hb");
    CHECK(hears("<?>"));
    CHECK(hears("b"));
    CHECK(all.find('h') == std::string::npos);
    shell.type("\x01\x01\x01"
               "a");
    CHECK(hears("\x01\x01"));
    // The shell puts another job in the foreground and sets the terminal for it.
    shell.to_background();
    std::this_thread::sleep_for(50ms);
    shell.cook();
    shell.type("secret\n");
    std::this_thread::sleep_for(600ms);
    CHECK(ticks_on());
    CHECK_FALSE(shell.stopped());
    CHECK(shell.cooked());
    CHECK(all.find('s') == std::string::npos);
    shell.to_front();
    CHECK(eventually([&] { return !shell.cooked(); }));
    shell.type("q");
    CHECK(eventually([&] { return shell.ended(); }));
    CHECK(shell.cooked());
}

TEST_CASE("a console that ends in the background leaves the terminal's settings to those in front") {
    const Pipe heard;
    JobShell shell{[&] {
        RawTerminal terminal{STDIN_FILENO};
        while (!terminal.take())
            ::usleep(1000);
        (void)!::write(heard.ends[1], "taken", 5);
        while (terminal.take())
            ::usleep(1000);
    }};
    shell.to_front();
    REQUIRE(eventually([&] { return heard.take() == "taken"; }));
    CHECK_FALSE(shell.cooked());
    shell.to_background();
    CHECK(eventually([&] { return shell.ended(); }));
    CHECK_FALSE(shell.cooked()); // the job in the foreground may want it so
}

TEST_CASE("output to a terminal that nobody reads never waits where it must not") {
    std::array<std::array<int, 2>, 20> terminals{}; // master and slave
    for (auto& [master, slave] : terminals)
        REQUIRE(::openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
    const std::string text(512, 'x');
    std::atomic<bool> done{false};
    std::thread loop{[&] {
        // After pieces of many sizes, some terminals have less room than the next piece needs, although poll(2) reports
        // room.
        std::mt19937 random{7};
        for (const auto& [master, slave] : terminals) {
            Output output{slave, ConsoleOverflow::wait};
            for (unsigned tries = 0, refused = 0; refused < 50 && tries < 10'000; ++tries) {
                const auto piece = bytes_of(text).first(1 + random() % text.size());
                refused += output.console.offer(piece) < piece.size() ? 1 : 0;
            }
        }
        done = true;
    }};
    CHECK(eventually([&] { return done.load(); }));
    for (std::array<char, 4096> sink{}; const auto& [master, slave] : terminals) {
        ::fcntl(master, F_SETFL, O_NONBLOCK);
        while (!done && ::read(master, sink.data(), sink.size()) > 0)
            std::this_thread::sleep_for(1ms);
    }
    for (const auto& [master, slave] : terminals)
        ::close(master);
    loop.join();
    for (const auto& [master, slave] : terminals)
        ::close(slave);
}

TEST_CASE("a full pipe holds a vCPU until there is room, or until it is to pause, and loses nothing") {
    const Pipe pipe;
    Output output{pipe.ends[1], ConsoleOverflow::wait};
    std::string said;
    std::atomic<std::size_t> written{0};
    std::thread vcpu{[&] {
        for (unsigned i = 0; output.gate->pass(0) && i < 30'000; ++i) {
            const std::string text = "line " + std::to_string(i) + "\n";
            output.console.write(bytes_of(text));
            said += text;
            written += text.size();
        }
    }};
    REQUIRE(eventually([&] { return written > 60'000; }));
    std::this_thread::sleep_for(50ms);
    for (int i = 0; i < 3; ++i) { // a pause works while nobody reads
        output.gate->set(RunGate::State::paused);
        output.gate->wait_until_parked(1);
        output.gate->set(RunGate::State::running);
        std::this_thread::sleep_for(5ms);
    }
    std::string got;
    CHECK(eventually([&] { return (got += pipe.take()).size() >= 200'000; }));
    output.gate->set(RunGate::State::stopping);
    vcpu.join();
    std::thread end{[&] { output.console.flush(); }};
    CHECK(eventually([&] { return (got += pipe.take()).size() == said.size(); }));
    end.join();
    CHECK(got == said);
    CHECK(output.console.missed() == 0);
    CHECK((::fcntl(pipe.ends[1], F_GETFL) & O_NONBLOCK) == 0); // other processes write there, too
}

TEST_CASE("pauses while nobody reads do not pile output up") {
    const Pipe pipe;
    Output output{pipe.ends[1], ConsoleOverflow::wait};
    output.gate->set(RunGate::State::paused);
    const std::string text(4096, 'x');
    for (int i = 0; i < 1000; ++i)
        output.console.write(bytes_of(text));
    CHECK(output.console.missed() >= 1000 * 4096 - 65536 - 65536 - 4096);
}

TEST_CASE("with drop a full pipe costs what is said meanwhile, which is counted and told, and no time") {
    const tests::LogCapture log;
    const Pipe pipe;
    Output output{pipe.ends[1], ConsoleOverflow::drop};
    const std::string text(1000, 'x');
    for (int i = 0; i < 1000; ++i)
        output.console.write(bytes_of(text));
    for (int i = 0; i < 10; ++i)
        CHECK(output.console.offer(bytes_of(text)) == text.size());
    const auto missed = output.console.missed();
    const auto got = pipe.take();
    CHECK(got.size() + missed == 1'010'000);
    CHECK(missed != 0);
    CHECK(log.text().find("nobody reads the console's output") != std::string::npos);
    output.console.write(bytes_of("again\n"));
    CHECK(pipe.take() == "again\n");
    CHECK(output.console.missed() == missed);
}

TEST_CASE("the last words to a reader that does not read take a moment, not for ever") {
    const Pipe pipe;
    const SharedOutput output{pipe.ends[1]};
    const std::string much(1 << 20, 'x');
    const auto start = std::chrono::steady_clock::now();
    CHECK_FALSE(output.write_within(much, 50ms));
    CHECK(std::chrono::steady_clock::now() - start < 10s);
    (void)pipe.take();
    CHECK(output.write_within("bye\n", 50ms));
    CHECK(pipe.take() == "bye\n");
}

TEST_CASE("a prompt is expected text once nothing has followed it") {
    const Pipe pipe;
    Output output{pipe.ends[1], ConsoleOverflow::drop};
    int seen = 0;
    int told = 0;
    output.console.expect(
        *Expect::create("ok$"), [&](ConsoleOutput::Line) { ++seen; }, [&] { ++told; });
    const auto writes = [&](const char* text) {
        for (const char* byte = text; *byte != '\0'; ++byte)
            output.console.write(bytes_of({byte, 1}));
    };
    writes("result: ok, but 3 failed, ok");
    CHECK(told == 1); // not for each
    CHECK(output.console.prompt_stays());
    writes(" or not");
    CHECK_FALSE(output.console.ends_at_prompt());
    CHECK_FALSE(output.console.prompt_stays());
    writes(": ok");
    CHECK(told == 2);
    CHECK(output.console.ends_at_prompt());
    CHECK(seen == 0);
    CHECK_FALSE(output.console.prompt_stays());
    CHECK(seen == 1);
    writes(", ok");
    CHECK(told == 2);
}

TEST_CASE("a line that matches before its end is told again at its end") {
    const Pipe pipe;
    Output output{pipe.ends[1], ConsoleOverflow::drop};
    std::vector<ConsoleOutput::Line> seen;
    output.console.expect(
        *Expect::create("tests passed"), [&](ConsoleOutput::Line line) { seen.push_back(line); }, [] {});
    const auto write = [&](std::string_view text) { output.console.write(bytes_of(text)); };
    using enum ConsoleOutput::Line;
    write("all tests passed");
    CHECK(seen == std::vector{unfinished});
    write(" in 3 ");
    CHECK(seen.size() == 1);
    write("s\nnext\n");
    CHECK(seen == std::vector{unfinished, ended});
    write("tests passed\n");
    CHECK(seen.size() == 2);

    Output whole{pipe.ends[1], ConsoleOverflow::drop};
    seen.clear();
    whole.console.expect(
        *Expect::create("passed"), [&](ConsoleOutput::Line line) { seen.push_back(line); }, [] {});
    whole.console.write(bytes_of("passed\nnext"));
    CHECK(seen == std::vector{ended});
}

} // namespace inox::machine_console_test
