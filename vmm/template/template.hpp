// SPDX-License-Identifier: Apache-2.0
// A snapshot that is loaded once, in a process that forks one for each clone of it. All on the loop's thread, which is
// the process's only one.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "vmm/base/event_loop.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/instance/confinement/confinement.hpp"
#include "vmm/instance/event_log.hpp"
#include "vmm/instance/snapshot/contents.hpp"
#include "vmm/machine/machine.hpp"

namespace inox::clones {

/// What a clone has of its own.
struct Order {
    ConfigFile names{};                ///< devices as use_names() takes them, API, serial log, --allow
    std::vector<std::string> passed{}; ///< paths of descriptors in it that whoever ordered it has passed
    std::vector<int> descriptors{};    ///< that the clone keeps open for them
    Machine::Begin begin{Machine::Begin::running};
    std::optional<RestoredClock> clock{}; ///< none: the template's
};

struct Clone {
    std::string id{}; ///< empty: it has none
    pid_t pid{};
    std::string socket{}; ///< of its API; empty: it has none
    std::chrono::steady_clock::time_point started_at{};
    /// From the order to the first KVM_RUN; none for one that waits for `resume`.
    std::optional<std::chrono::nanoseconds> first_instruction{};
};

/// What runs in the process of a clone, which then ends with the code that it returns. `confine`: see RunPlan.
/// `running`: once its guest runs, or waits, or why it cannot; it may be called from the loop's thread only.
struct Child {
    ConfigFile file{};
    Restored from{};
    Machine::Begin begin{};
    Timeline& timeline;
    std::unique_ptr<Confinement> confinement{};
    std::function<void(Result<void>)> running{};
};
using RunChild = std::function<int(Child child)>;

class Template {
public:
    struct Plan {
        ConfigFile file{};    ///< names of the host as `inox run --from` takes them, --allow, the log, seccomp, the API
        std::string folder{}; ///< of the snapshot
        RestoredClock clock{RestoredClock::goes_on};
        RunChild run{};
    };

    /// Loads and checks the snapshot and opens what clones can share. While this process has one thread. The errors of
    /// a restore; unsaveable for what cannot be cloned.
    static Result<std::unique_ptr<Template>> load(Plan plan);
    Template(const Template&) = delete;
    Template& operator=(const Template&) = delete;
    ~Template();

    /// Once, before spawn(): the process gives up what making a clone does not need. `own`: paths that it removes at
    /// its end. `state`: the folder of `inox ps`.
    Result<void> confine(const std::vector<std::string>& own, const std::string& state);
    /// Watches for clones that end.
    Result<void> watch(EventLoop& loop);

    /// Makes a process. `done` is called on the loop, once its guest runs or waits, or has failed to. It does not
    /// return in that process. not_allowed, in_use, and the errors of a restore.
    using Done = std::move_only_function<void(Result<Clone>)>;
    void spawn(Order order, Done done);

    [[nodiscard]] const SavedMachine& saved() const { return saved_; }
    /// Those that run.
    [[nodiscard]] const std::map<pid_t, Clone>& clones() const { return clones_; }
    [[nodiscard]] std::uint64_t spawned() const { return spawned_; }
    [[nodiscard]] EventLog& events() { return events_; }

private:
    /// A clone that has not said yet that it runs.
    struct Start {
        Clone clone;
        Done done;
        UniqueFd report;
        std::string text{};
        Registration watch{};
    };
    Template(Plan plan, SavedMachine saved) : plan_{std::move(plan)}, saved_{std::move(saved)} {}
    Result<ConfigFile> file_of(Order& order) const;
    Result<std::unique_ptr<confine::Broker>> broker_for(const ConfigFile& file, const std::string& id);
    Result<Start> fork_one(Order& order);
    [[noreturn]] void become(ConfigFile file, Order& order, int report, Timeline& timeline,
                             std::unique_ptr<confine::Broker> broker);
    void leave_parent(const std::vector<int>& kept) const;
    void on_report(pid_t pid);
    void finish(pid_t pid);
    void reap();
    void on_end(pid_t pid, int status);

    Plan plan_;
    SavedMachine saved_;
    Restored base_{};
    std::unique_ptr<Confinement> confinement_{};
    std::string state_folder_{};
    UniqueFd nothing_{}; ///< /dev/null
    EventLoop* loop_{nullptr};
    UniqueFd ends_{}; ///< of SIGCHLD
    Registration ends_watch_{};
    std::map<pid_t, std::unique_ptr<Start>> starting_{};
    std::map<pid_t, Clone> clones_{};
    std::map<pid_t, int> ended_{}; ///< of those that have said nothing yet
    std::uint64_t spawned_{0};
    EventLog events_{};
};

} // namespace inox::clones
