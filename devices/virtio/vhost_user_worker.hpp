// SPDX-License-Identifier: Apache-2.0
// A thread that talks to one vhost-user daemon, so that neither the loop nor a vCPU ever waits for the daemon.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "devices/virtio/vhost_user.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::virtio {

struct VhostUserContext {
    std::string socket;
    std::uint64_t required;    ///< features that the daemon must have
    const GuestMemory& memory; ///< outlives the worker
    /// The daemon failed while it served the device of that session. On the worker's thread.
    std::function<void(std::uint64_t session, const Error& error)> on_failed;
};

/// Orders are carried out one after the other; none of the calls blocks. When the daemon dies, hangs or breaks the
/// protocol, the connection is dropped and the next start() makes a new one.
class VhostUserWorker {
public:
    /// How long create() waits for a daemon's first answers: within what the control API promises for its own.
    static constexpr std::chrono::milliseconds first_wait{50};

    /// Connects. An error that shows within first_wait is returned; one that comes later waits for the first start().
    static Result<std::unique_ptr<VhostUserWorker>> create(VhostUserContext context);
    /// Cancels what is under way; at once.
    ~VhostUserWorker();
    VhostUserWorker(const VhostUserWorker&) = delete;
    VhostUserWorker& operator=(const VhostUserWorker&) = delete;

    /// Agrees on features and starts rings. `session` comes back with on_failed().
    void start(std::uint64_t session, std::uint64_t features, std::vector<VhostUser::Ring> rings);
    /// One more ring of the same session.
    void start_ring(std::uint64_t session, const VhostUser::Ring& ring);
    /// `session`: the one that goes on with its other rings; 0 when none does.
    void stop(std::uint64_t session, std::vector<unsigned> rings);
    /// An ordered stop is not finished: the daemon may still touch the rings. Any thread.
    [[nodiscard]] bool stopping() const noexcept { return stops_ != 0; }

private:
    struct Order {
        std::uint64_t session;
        bool stops;
        std::move_only_function<Result<void>(VhostUser&)> talk;
    };

    explicit VhostUserWorker(VhostUserContext context, EventFd wake, EventFd cancel)
        : context_{std::move(context)}, wake_{std::move(wake)}, cancel_{std::move(cancel)} {}
    void give(Order order);
    std::optional<Order> next();
    void run();
    void carry_out(Order order);
    Result<void> connect();
    void lose(std::uint64_t session, const Error& error);
    bool wait_for_work();

    const VhostUserContext context_;
    const EventFd wake_;
    const EventFd cancel_;
    std::atomic<unsigned> stops_{0};

    // The worker's own.
    std::optional<VhostUser> daemon_{};
    std::uint64_t serving_{0}; ///< session whose rings run; 0: none

    std::mutex mutex_; // guards all below
    std::deque<Order> orders_{};
    std::optional<Result<void>> connected_{}; ///< the first attempt
    std::condition_variable first_attempt_;
    std::jthread thread_; // last: it uses all of the above
};

} // namespace inox::devices::virtio
