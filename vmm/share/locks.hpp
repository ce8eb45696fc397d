// SPDX-License-Identifier: Apache-2.0
// Locks of the guest's processes on the host's files, as other programs of the host see them.
//
// A lock of fcntl(2) belongs to an owner in the guest: it is one of an open file description (F_OFD_SETLK) that the
// server keeps for that owner and that file. A lock of flock(2) belongs to the guest's open file, which has a
// description here anyway.
//
// Nobody waits for a lock inside a system call: a request that has to wait is kept and tried again, when a lock of the
// guest goes and every `pause`, for those that programs of the host give back.
#pragma once

#include <chrono>
#include <cstdint>
#include <fcntl.h>
#include <functional>
#include <map>
#include <vector>

#include "vmm/share/nodes.hpp"

namespace inox::share {

class Locks {
public:
    static constexpr std::chrono::milliseconds pause{50};
    /// Requests that wait; one more is refused with ENOLCK.
    static constexpr std::size_t most_waiting = 1024;

    /// Errno of an attempt, 0 when the lock is had. EAGAIN: somebody else has it.
    using Attempt = std::function<int()>;
    using Answer = std::function<void(int error)>;

    /// `open`: a fresh description of the file; negative with errno.
    int set(NodeId node, std::uint64_t owner, const struct flock& lock, const std::function<int()>& open);
    /// As F_GETLK: who is in the way, if anybody.
    int get(NodeId node, std::uint64_t owner, struct flock& lock, const std::function<int()>& open);
    /// The owner closed the file, as one process of the guest: its locks go.
    void drop(NodeId node, std::uint64_t owner);
    void drop(NodeId node);
    void drop_all();

    /// Tries until it has an answer other than EAGAIN. `unique`: of the request.
    void wait(std::uint64_t unique, Attempt attempt, Answer answer);
    /// Ends the wait of that request with EINTR.
    void interrupt(std::uint64_t unique);
    void retry();
    [[nodiscard]] bool waiting() const noexcept { return !waiting_.empty(); }
    /// Descriptions that are kept.
    [[nodiscard]] std::size_t count() const noexcept { return owners_.size(); }

private:
    struct Waiting {
        std::uint64_t unique;
        Attempt attempt;
        Answer answer;
    };
    std::map<std::pair<NodeId, std::uint64_t>, UniqueFd> owners_{};
    std::vector<Waiting> waiting_{};
};

} // namespace inox::share
