// SPDX-License-Identifier: Apache-2.0
// Signals and the time limit, on a thread of their own. The thread asks the loop to end the guest in an orderly way. If
// the loop does not react, or the end takes too long, the thread ends the process.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
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
        /// Also SIGWINCH, SIGTSTP and SIGCONT, each once for all of its kind that came meanwhile.
        std::function<void(int signal)> on_signal{};
        std::function<void()> on_timeout{};
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
    static constexpr std::chrono::milliseconds devices_stop_within{10'000};
    /// The loop has stopped because of `why`. The rest of the process's end may take `ends_within`. On the loop's
    /// thread.
    void ending(const Error& why, std::chrono::milliseconds ends_within = devices_stop_within);

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

    Watchdog(EventLoop& loop, Options options, UniqueFd signals, EventFd woken);
    void watch();
    void on_readable();
    void ask(Error why, std::function<void()> tell);
    [[nodiscard]] int milliseconds_left() const;
    [[noreturn]] void end_process(const char* what) const;

    EventLoop& loop_;
    const Options options_;
    UniqueFd signals_;
    EventFd woken_; ///< by the loop's thread: ending_ or stop_
    std::atomic<bool> stop_{false};
    std::atomic<const Error*> ending_{nullptr};
    std::optional<Error> ending_error_{};
    std::chrono::milliseconds ends_within_{};
    std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();

    // The thread's.
    std::optional<Clock::time_point> time_is_up_{};
    std::optional<Clock::time_point> give_up_{};
    std::optional<Error> why_{}; ///< first of the reasons to end
    bool ends_{false};           ///< give_up_ limits ending(), not the loop's reaction

    std::thread thread_{};
};

} // namespace inox
