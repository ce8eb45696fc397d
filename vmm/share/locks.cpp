// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/locks.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace inox::share {

int Locks::set(NodeId node, std::uint64_t owner, const struct flock& lock, const std::function<int()>& open) {
    auto found = owners_.find({node, owner});
    if (found == owners_.end()) {
        if (lock.l_type == F_UNLCK)
            return 0;
        UniqueFd fd{open()};
        if (!fd)
            return errno;
        found = owners_.emplace(std::pair{node, owner}, std::move(fd)).first;
    }
    struct flock copy = lock;
    copy.l_pid = 0;
    if (::fcntl(found->second.get(), F_OFD_SETLK, &copy) != 0) // NOLINT(*-vararg)
        return errno == EACCES ? EAGAIN : errno;
    if (lock.l_type == F_UNLCK)
        retry();
    return 0;
}

int Locks::get(NodeId node, std::uint64_t owner, struct flock& lock, const std::function<int()>& open) {
    const auto found = owners_.find({node, owner});
    const UniqueFd fresh{found == owners_.end() ? open() : -1};
    const int fd = found == owners_.end() ? fresh.get() : found->second.get();
    if (fd < 0)
        return errno;
    lock.l_pid = 0;
    if (::fcntl(fd, F_OFD_GETLK, &lock) != 0) // NOLINT(*-vararg)
        return errno;
    lock.l_pid = std::max(lock.l_pid, 0); // a description has no process
    return 0;
}

void Locks::drop(NodeId node, std::uint64_t owner) {
    if (owners_.erase({node, owner}) != 0)
        retry();
}

void Locks::drop(NodeId node) {
    const auto first = owners_.lower_bound({node, 0});
    const auto last = owners_.upper_bound({node, ~std::uint64_t{0}});
    owners_.erase(first, last);
}

void Locks::drop_all() {
    for (const auto& one : std::exchange(waiting_, {}))
        one.answer(EINTR);
    owners_.clear();
}

void Locks::wait(std::uint64_t unique, Attempt attempt, Answer answer) {
    const int error = attempt();
    if (error != EAGAIN)
        return answer(error);
    if (waiting_.size() >= most_waiting)
        return answer(ENOLCK);
    waiting_.push_back({unique, std::move(attempt), std::move(answer)});
}

void Locks::interrupt(std::uint64_t unique) {
    const auto found = std::ranges::find(waiting_, unique, &Waiting::unique);
    if (found == waiting_.end())
        return;
    const auto one = std::move(*found);
    waiting_.erase(found);
    one.answer(EINTR);
}

void Locks::retry() {
    // In the order of their requests. An attempt may open files, but takes no lock away, so none calls this again.
    std::erase_if(waiting_, [](const Waiting& one) {
        const int error = one.attempt();
        if (error != EAGAIN)
            one.answer(error);
        return error != EAGAIN;
    });
}

} // namespace inox::share
