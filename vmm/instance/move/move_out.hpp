// SPDX-License-Identifier: Apache-2.0
// The side of a move that gives the guest away: memory is sent while the guest runs, again and again what it wrote
// meanwhile, until the rest fits into the downtime; then the guest stands still, and the rest and the state follow.
//
// Until the word `go` is sent, whatever breaks leaves the guest running here. From then on nobody here knows where it
// runs until the other side says so: it stays held until take_back(). So it never runs twice.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "vmm/base/event_loop.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/instance/move/channel.hpp"
#include "vmm/instance/snapshot/at_rest.hpp"
#include "vmm/machine/machine.hpp"

namespace inox {

/// Everything is called on the loop.
class MoveOut {
public:
    using Clock = std::chrono::steady_clock;
    struct Progress {
        unsigned round{0};      ///< 1: all of memory
        std::uint64_t sent{0};  ///< bytes of memory so far
        std::uint64_t left{0};  ///< bytes that were written meanwhile, for the next round
        Clock::duration down{}; ///< how long the guest has stood still
    };
    using Done = std::move_only_function<void(Result<Progress>)>;
    struct Plan {
        UniqueFd socket{};
        std::string path{}; ///< that the socket is to be connected to; empty: it is
        std::chrono::milliseconds downtime{300};
        Config config{}; ///< with absolute paths
        std::optional<MmdsConfig> mmds{};
        std::function<void(const Progress&)> progress{}; ///< after each round
    };

    /// `done` is never called before this returns. unsaveable, wrong_state; host_error, timed_out, snapshot_invalid for
    /// a stream that breaks. After `done` with success the guest runs there.
    static Result<std::unique_ptr<MoveOut>> start(EventLoop& loop, Machine& machine, Plan plan, Done done);
    /// Before the machine goes; `done` is not called then.
    ~MoveOut();
    MoveOut(const MoveOut&) = delete;
    MoveOut& operator=(const MoveOut&) = delete;
    /// Gives it up, which `done` hears of soon. wrong_state once it is handed over.
    Result<void> cancel();
    /// The other side has all, and the word to run it.
    [[nodiscard]] bool handed_over() const { return handed_over_; }
    /// The operator knows that it does not run there.
    void take_back();

private:
    MoveOut(EventLoop& loop, Machine& machine, Plan plan, Done done);
    void run(std::move_only_function<Result<void>()> work, void (MoveOut::*then)());
    Result<void> greet();      // on the thread
    Result<void> send_round(); // the same
    Result<void> flush();      // the same
    Result<void> send_rest();  // the same
    Result<void> hand_over();  // the same
    Result<void> add_page(std::uint64_t number, std::span<const std::byte> page);
    void copy();
    void on_round();
    void stop_guest();
    void on_rest(const Result<void>& rest);
    Result<void> collect_state();
    void on_loaded();
    void on_running();
    /// Whether what was pending has gone.
    enum class Sent : bool { no, yes };
    Result<void> take_written(Sent sent);
    void end(Error why);

    EventLoop& loop_;
    Machine& machine_;
    Plan plan_;
    Done done_; ///< empty once it was called
    AtRest rest_;
    std::unique_ptr<move::Channel> channel_;
    bool tracked_before_;
    bool handed_over_{false};
    std::atomic<bool> stop_{false};
    Progress progress_{};
    std::atomic<std::uint64_t> sent_{0};
    std::vector<std::uint64_t> pending_{}; ///< bits of the pages of the next round
    std::vector<std::uint64_t> taken_{};   ///< of all rounds, for the log if the guest stays
    std::vector<std::byte> state_{};
    // Of the run of pages that is being gathered.
    std::uint64_t first_{0};
    std::span<const std::byte> run_{};
    std::uint64_t zeros_{0};
    Clock::time_point round_began_{};
    std::uint64_t sent_before_{0};
    std::uint64_t least_left_{~std::uint64_t{0}};
    unsigned in_vain_{0};
    double bytes_a_second_{1e9};
    Clock::time_point stopped_at_{};
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};
    Registration timer_{};
    std::thread thread_{};
};

} // namespace inox
