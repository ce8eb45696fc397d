// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vhost_user_worker.hpp"

#include <array>
#include <cerrno>
#include <poll.h>

#include "vmm/base/log.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"

namespace inox::devices::virtio {

Result<std::unique_ptr<VhostUserWorker>> VhostUserWorker::create(VhostUserContext context) {
    auto first = TRY(EventFd::create());
    auto second = TRY(EventFd::create());
    std::unique_ptr<VhostUserWorker> worker{
        new VhostUserWorker{std::move(context), std::move(first), std::move(second)}};
    try {
        worker->thread_ = std::jthread{[raw = worker.get()] {
            enter_thread(ThreadKind::share, "vhost-user");
            raw->run();
        }};
    } catch (const std::system_error& error) {
        return fail_thread("the thread of a shared folder", error);
    }
    std::unique_lock lock{worker->mutex_};
    worker->first_attempt_.wait_for(lock, first_wait, [&] { return worker->connected_.has_value(); });
    if (worker->connected_ && !*worker->connected_) {
        auto error = worker->connected_->error();
        lock.unlock();
        return std::unexpected{std::move(error)};
    }
    lock.unlock();
    return worker;
}

VhostUserWorker::~VhostUserWorker() {
    cancel_.signal();
    if (thread_.joinable())
        thread_.join();
}

void VhostUserWorker::start(std::uint64_t session, std::uint64_t features, std::vector<VhostUser::Ring> rings) {
    give({session, false, [this, features, rings = std::move(rings)](VhostUser& daemon) -> Result<void> {
              TRY_VOID(daemon.set_features(features & daemon.features()));
              for (const auto& ring : rings)
                  TRY_VOID(daemon.start_ring(ring, context_.memory));
              return {};
          }});
}

void VhostUserWorker::start_ring(std::uint64_t session, const VhostUser::Ring& ring) {
    give({session, false, [this, ring](VhostUser& daemon) { return daemon.start_ring(ring, context_.memory); }});
}

void VhostUserWorker::stop(std::uint64_t session, std::vector<unsigned> rings) {
    stops_ += 1;
    give({session, true, [rings = std::move(rings)](VhostUser& daemon) -> Result<void> {
              for (const unsigned ring : rings)
                  TRY_VOID(daemon.stop_ring(ring));
              return {};
          }});
}

void VhostUserWorker::give(Order order) {
    {
        std::lock_guard lock{mutex_};
        orders_.push_back(std::move(order));
    }
    wake_.signal();
}

std::optional<VhostUserWorker::Order> VhostUserWorker::next() {
    std::lock_guard lock{mutex_};
    if (orders_.empty())
        return std::nullopt;
    auto order = std::move(orders_.front());
    orders_.pop_front();
    return order;
}

void VhostUserWorker::run() {
    auto first = connect();
    {
        std::lock_guard lock{mutex_};
        connected_ = std::move(first);
    }
    first_attempt_.notify_all();
    while (wait_for_work())
        while (auto order = next())
            carry_out(std::move(*order));
}

/// False when the worker must end. The end of the daemon is looked for only when no order waits, so that it belongs to
/// the session that is being served.
bool VhostUserWorker::wait_for_work() {
    for (;;) {
        std::array<pollfd, 3> polled{
            {{cancel_.fd(), POLLIN, 0}, {wake_.fd(), POLLIN, 0}, {daemon_ ? daemon_->fd() : -1, POLLIN, 0}}};
        if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR)
            return false;
        if (polled[0].revents != 0)
            return false;
        if (polled[1].revents != 0) {
            wake_.drain();
            return true;
        }
        if (polled[2].revents != 0)
            lose(serving_, daemon_->unasked());
    }
}

void VhostUserWorker::carry_out(Order order) {
    Result<void> done{};
    if (!daemon_ && !order.stops)
        done = connect();
    if (daemon_) { // a daemon that is gone touches nothing, so its rings need no stop
        daemon_->begin();
        done = order.talk(*daemon_);
    }
    serving_ = order.session;
    if (!done) {
        if (order.stops)
            log::write(log::Level::error,
                       "%s; it did not stop its rings, so it may write to guest memory as long as it runs",
                       done.error().message().c_str());
        lose(order.session, done.error());
    }
    if (order.stops)
        stops_ -= 1;
}

Result<void> VhostUserWorker::connect() {
    auto daemon = TRY(VhostUser::connect(context_.socket, cancel_.fd()));
    if ((daemon.features() & context_.required) != context_.required)
        return fail(Errc::unsupported, "the daemon at '" + context_.socket + "' lacks ring features",
                    "use a newer one; it must know indirect descriptors and event indices");
    TRY_VOID(daemon.share_memory(context_.memory));
    daemon_.emplace(std::move(daemon));
    return {};
}

void VhostUserWorker::lose(std::uint64_t session, const Error& error) {
    daemon_.reset();
    serving_ = 0;
    if (session != 0)
        context_.on_failed(session, error);
}

} // namespace inox::devices::virtio
