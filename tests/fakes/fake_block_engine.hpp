// SPDX-License-Identifier: Apache-2.0
// An engine that does nothing until the test says so, and what it says: any order, any error.
#pragma once

#include <cerrno>
#include <deque>
#include <vector>

#include "devices/virtio/block/engine.hpp"
#include "devices/virtio/block/file.hpp"
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

    [[nodiscard]] std::span<const int> ready_fds() const override { return {&fd_, 1}; }
    void submit(Job& job) noexcept override;
    Job* take_finished() noexcept override;
    [[nodiscard]] bool stalled() const noexcept override { return false; }
    void cancel(Job& job) noexcept override;

    /// The kernel's part: the job at `index` of those waiting ends so.
    void finish(std::size_t index, int with_error);

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
