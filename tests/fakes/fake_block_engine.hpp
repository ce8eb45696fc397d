// SPDX-License-Identifier: Apache-2.0
// An engine that does nothing until the test says so, and what it says: any order, any error.
#pragma once

#include <algorithm>
#include <cerrno>
#include <deque>
#include <vector>

#include "devices/virtio/block/engine.hpp"
#include "vmm/base/os.hpp"

namespace inox::fakes {

/// Used on the loop's thread only, like the device.
class FakeBlockEngine final : public devices::virtio::BlockEngine {
public:
    using Job = devices::virtio::BlockJob;
    struct Seen {
        devices::virtio::BlockJobKind kind;
        std::uint64_t offset;
        std::uint64_t length;
        bool durable;
        bool unmap;
    };

    [[nodiscard]] std::string_view name() const override { return "fake"; }
    [[nodiscard]] std::span<const int> ready_fds() const override { return {&fd_, 1}; }
    void submit(Job& job) noexcept override {
        seen.push_back({job.kind, job.offset, job.length, job.durable, job.unmap});
        if (finish_at_once) {
            job.error = error;
            finished_.push_back(&job);
        } else {
            waiting.push_back(&job);
        }
    }
    Job* take_finished() noexcept override {
        ready_.drain();
        if (finished_.empty())
            return nullptr;
        Job* job = finished_.front();
        finished_.pop_front();
        return job;
    }
    [[nodiscard]] bool stalled() const noexcept override { return false; }
    void cancel(Job& job) noexcept override {
        ++cancels;
        const auto found = std::ranges::find(waiting, &job);
        if (!stubborn && found != waiting.end())
            finish(static_cast<std::size_t>(found - waiting.begin()), ECANCELED);
    }

    /// The kernel's part: the job at `index` of those waiting ends so.
    void finish(std::size_t index, int with_error) {
        Job* job = waiting[index];
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(index));
        job->error = with_error;
        finished_.push_back(job);
        ready_.signal();
    }

    bool finish_at_once{false};
    bool stubborn{false}; ///< what has begun cannot be cancelled
    unsigned cancels{0};
    int error{0};
    std::vector<Seen> seen{};
    std::vector<Job*> waiting{};

private:
    std::deque<Job*> finished_{};
    EventFd ready_{*EventFd::create()};
    int fd_{ready_.fd()};
};

} // namespace inox::fakes
