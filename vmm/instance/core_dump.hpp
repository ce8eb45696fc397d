// SPDX-License-Identifier: Apache-2.0
// A dump of the guest being written by a thread of its own, while the guest stands still and the loop answers.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/event_loop.hpp"
#include "vmm/boot/vmcore.hpp"
#include "vmm/machine/machine.hpp"

namespace inox {

class CoreDump {
public:
    /// Bytes of the file, with its holes.
    using Done = std::move_only_function<void(Result<std::uint64_t>)>;
    enum class File : std::uint8_t { made, replaced };

    /// Whether a dump can be written there, by what is there now; nothing is made.
    static Result<void> check(const std::string& path);
    /// Stops the guest, and lets it go on after `done`, which is called on the loop, never before this returns. The
    /// file is opened beside the loop too, is readable for its owner only, and does not stay after a failure. `done`
    /// gets output_unwritable, or in_use where File::made finds a file.
    static Result<std::unique_ptr<CoreDump>> start(EventLoop& loop, Machine& machine, const std::string& path, File how,
                                                   Done done);
    /// Gives up what is not written yet; `done` is not called then. Before the machine goes.
    ~CoreDump();
    CoreDump(const CoreDump&) = delete;
    CoreDump& operator=(const CoreDump&) = delete;

private:
    CoreDump(Machine& machine, std::string path, EventFd stop_opening, Done done)
        : machine_{machine}, path_{std::move(path)}, done_{std::move(done)}, stop_opening_{std::move(stop_opening)} {}
    // On the writer's thread.
    [[nodiscard]] Result<void> open(File how);
    [[nodiscard]] Result<void> write();

    void remove_file() const;
    void finish(const Result<void>& written);

    Machine& machine_;
    std::string path_;
    UniqueFd file_{}; ///< empty: it could not be opened
    Done done_;       ///< empty once it was called
    std::vector<boot::CoreCpu> cpus_{};
    std::uint64_t size_{0}; ///< of what was written
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};
    EventFd stop_opening_;
    std::atomic<bool> stop_{false};
    std::thread writer_{};
};

} // namespace inox
