// SPDX-License-Identifier: Apache-2.0
// A snapshot being made: devices come to rest while the loop runs, then a thread of its own writes the files, while the
// guest stands still and the loop answers.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "vmm/base/event_loop.hpp"
#include "vmm/instance/snapshot/at_rest.hpp"
#include "vmm/instance/snapshot/contents.hpp"
#include "vmm/machine/machine.hpp"

namespace inox {

/// Everything is called on the loop.
class SnapshotSave {
public:
    struct Written {
        std::uint64_t memory{0}; ///< bytes
        std::uint64_t stored{0}; ///< of them, not zero; of a Diff: changed
        snapshot::MemoryId id{};
    };
    using Done = std::move_only_function<void(Result<Written>)>;
    /// What a snapshot of that name is for.
    enum class Existing : std::uint8_t {
        refused,
        replaced, ///< and a Diff goes over a memory file that is there, which the caller merges so
    };
    struct Plan {
        SnapshotFiles files{};
        Existing existing{Existing::refused};
        snapshot::Pages pages{snapshot::Pages::all};
        snapshot::MemoryId base{}; ///< of a Diff
        Config config{};           ///< with absolute paths
        std::optional<MmdsConfig> mmds{};
        std::function<void(std::uint64_t done, std::uint64_t total)> progress{}; ///< a few times a second
    };

    /// Holds the machine until `done` was called, which is never before this returns. Files have temporary names until
    /// they are complete and on stable storage: memory gets its name first, the state last. unsaveable, wrong_state,
    /// timed_out for a device that does not come to rest, in_use where a snapshot is already or where a guest runs from
    /// the file that a Diff goes over, output_unwritable. When it has succeeded, the log of written pages begins anew.
    static Result<std::unique_ptr<SnapshotSave>> start(EventLoop& loop, Machine& machine, Plan plan, Done done);
    /// Gives up what is not complete; `done` is not called then. Before the machine goes.
    ~SnapshotSave();
    SnapshotSave(const SnapshotSave&) = delete;
    SnapshotSave& operator=(const SnapshotSave&) = delete;
    /// Gives it up, which `done` hears of soon.
    void cancel() { stop_ = true; }

private:
    SnapshotSave(EventLoop& loop, Machine& machine, Plan plan, Done done);
    void on_rest(Result<void> rest);
    Result<void> collect();
    Result<void> write();       // on the writer's thread
    Result<void> write_files(); // the same
    Result<UniqueFd> open_memory();
    void report_progress();
    void finish(Result<void> written);
    void let_go();

    EventLoop& loop_;
    Machine& machine_;
    Plan plan_;
    Done done_; ///< empty once it was called
    AtRest rest_;
    snapshot::Parts parts_{};
    snapshot::MemoryId id_{};
    snapshot::MemoryContents contents_{};
    bool over_{false}; ///< the memory goes over a file that is there
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> looked_at_{0};
    Registration timer_{};
    std::thread writer_{};
};

} // namespace inox
