// SPDX-License-Identifier: Apache-2.0
// Signals and the time limit, on a thread of their own. The thread asks the loop to end the guest in an orderly way. If
// the loop does not react, or the end takes too long, the thread ends the process.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "vmm/base/event_loop.hpp"
#include "vmm/base/os.hpp"

namespace inox {

class Watchdog {
public:
    struct Options {
        std::optional<std::chrono::milliseconds> timeout{}; ///< from start() on
        std::chrono::milliseconds hears_within{2000};       ///< the loop, what it is asked
        // On the loop.
        /// Also SIGWINCH, SIGTSTP and SIGCONT, each once for all of its kind that came meanwhile. SIGTSTP: the process
        /// stops after it, unless SIGCONT comes first; SIGCONT always follows.
        std::function<void(int signal)> on_signal{};
        std::function<void()> on_timeout{};
        /// On the watchdog's thread, when it ends the process: what to print after the error.
        std::function<std::string(const Error& why)> last_words{};
    };

    /// Blocks SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP and SIGCONT for the calling thread and every thread
    /// made after this; they wait for start(). A pipe without a reader and a file at its size limit no longer end the
    /// process, and the terminal of another job no longer stops it. `loop` must outlive it.
    static Result<std::unique_ptr<Watchdog>> create(EventLoop& loop, Options options);
    /// From now on the watchdog does not end the process.
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// Makes the thread: some tens of microseconds, so after the guest's first instruction.
    Result<void> start();
    /// What the rest of the process's end waits for.
    struct Rest {
        std::chrono::milliseconds within; ///< may take so long
        const char* late;                 ///< what is said of it otherwise
    };
    static constexpr Rest devices{std::chrono::milliseconds{10'000}, "the devices did not stop"};
    /// A start has nothing to lose: what is in a call of the kernel's then goes with the process.
    static constexpr Rest unfinished_start{std::chrono::milliseconds{60}, "the start did not stop"};
    static constexpr Rest lost_memory{std::chrono::milliseconds{1000}, "a thread waits for the guest's memory"};
    /// Any thread: the loop has been told to end because of `why`; if it does not react within 100 ms, the process
    /// ends.
    void stalled(const Error& why);
    /// The loop has stopped because of `why`. On the loop's thread.
    void ending(const Error& why, Rest rest = devices);

    /// The error that a signal ends the process with; nullopt for one that does not end it.
    static std::optional<Error> end_by(int signal);
    static Error end_by_timeout(std::chrono::milliseconds limit);

private:
    using Clock = std::chrono::steady_clock;
    /// What the loop shares with the thread; lives as long as either needs it.
    struct Shared {
        std::atomic<bool> heard{false};
        std::atomic<std::uint64_t> waiting{0}; ///< one bit a signal that does not end the process
    };

    Watchdog(EventLoop& loop, Options options, UniqueFd signals, UniqueFd stops, EventFd woken);
    void watch();
    void on_readable();
    void tell_once(int signal);
    void stop_process();
    void ask(Error why, std::function<void()> tell, std::chrono::milliseconds hears_within);
    [[nodiscard]] int milliseconds_left() const;
    [[noreturn]] void end_process(const char* what) const;

    EventLoop& loop_;
    const Options options_;
    UniqueFd signals_;
    UniqueFd stops_; ///< readable while a SIGTSTP waits; never read, so that a SIGCONT takes the signal back
    EventFd woken_;  ///< by the loop's thread: ending_, stop_ or may_stop_
    std::atomic<bool> stop_{false};
    std::atomic<bool> may_stop_{false}; ///< the loop knows of the SIGTSTP
    std::atomic<const Error*> ending_{nullptr};
    std::mutex stalled_mutex_{};
    std::optional<Error> stalled_{}; ///< guarded by it
    std::optional<Error> ending_error_{};
    Rest rest_{devices};
    std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();

    // The thread's.
    std::optional<Clock::time_point> time_is_up_{};
    std::optional<Clock::time_point> give_up_{};
    std::optional<Error> why_{}; ///< first of the reasons to end
    bool ends_{false};           ///< give_up_ limits ending(), not the loop's reaction
    bool stopping_{false};       ///< the loop was told of a SIGTSTP

    std::thread thread_{};
};

} // namespace inox
