// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/event_loop.hpp"

#include <atomic>
#include <deque>
#include <mutex>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <fcntl.h>

#include "vmm/base/outside/outside.hpp"

namespace inox {

namespace asio = boost::asio;

namespace {
thread_local EventLoop::Apart* apart_now = nullptr;
} // namespace

EventLoop::Apart::Apart(EventLoop& loop) : loop_{loop} { apart_now = this; }
EventLoop::Apart::~Apart() {
    apart_now = nullptr;
    if (!waiting_.empty())
        loop_.post([waiting = std::move(waiting_)]() mutable {
            for (auto& one : waiting)
                one();
        });
}

EventLoop::Apart* EventLoop::apart() const {
    return apart_now != nullptr && &apart_now->loop_ == this ? apart_now : nullptr;
}

struct EventLoop::Impl {
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
    std::mutex urgent_mutex{};
    std::deque<std::move_only_function<void()>> urgent{}; // guarded by urgent_mutex
    std::atomic<bool> has_urgent{false};

    /// Every handler calls this first. The number is limited, because clients that ask without end would starve the
    /// guest's devices. Each handler that is left here has one posted in the loop that will run it.
    void run_urgent() {
        constexpr unsigned most = 16;
        for (unsigned count = 0; count < most && has_urgent.load(std::memory_order_acquire); ++count) {
            std::move_only_function<void()> next;
            {
                const std::lock_guard lock{urgent_mutex};
                if (!urgent.empty()) {
                    next = std::move(urgent.front());
                    urgent.pop_front();
                }
                has_urgent.store(!urgent.empty(), std::memory_order_relaxed);
            }
            if (next)
                next();
        }
    }
};

struct EventLoop::Watch : std::enable_shared_from_this<Watch> {
    Watch(Impl& owner, int fd, bool write, std::function<void()> call)
        : loop{owner}, descriptor{owner.context, fd}, writable{write}, handler{std::move(call)} {}

    void arm() {
        const auto kind =
            writable ? asio::posix::stream_descriptor::wait_write : asio::posix::stream_descriptor::wait_read;
        descriptor.async_wait(kind, [self = shared_from_this()](const boost::system::error_code& error) {
            if (error || self->cancelled)
                return;
            self->loop.run_urgent();
            if (self->cancelled)
                return;
            self->handler();
            if (!self->cancelled)
                self->arm();
        });
    }

    Impl& loop;
    asio::posix::stream_descriptor descriptor;
    bool writable;
    std::function<void()> handler;
    bool cancelled{false};
};

EventLoop::EventLoop() : impl_{std::make_unique<Impl>()} {}
EventLoop::~EventLoop() = default;

void EventLoop::run() {
    const outside::Brief brief;
    impl_->context.run();
}
asio::io_context& EventLoop::context() { return impl_->context; }
void EventLoop::stop() { impl_->context.stop(); }
void EventLoop::restart() { impl_->context.restart(); }

void EventLoop::post(std::move_only_function<void()> handler) {
    if (auto* const mine = apart())
        return mine->waiting_.push_back([this, run = std::move(handler)]() mutable { post(std::move(run)); });
    asio::post(impl_->context, [&loop = *impl_, run = std::move(handler)]() mutable {
        loop.run_urgent();
        run();
    });
}

void EventLoop::post_urgent(std::move_only_function<void()> handler) {
    {
        const std::lock_guard lock{impl_->urgent_mutex};
        impl_->urgent.push_back(std::move(handler));
        impl_->has_urgent.store(true, std::memory_order_release);
    }
    asio::post(impl_->context, [&loop = *impl_] { loop.run_urgent(); });
}

Result<Registration> EventLoop::watch(int fd, std::function<void()> handler) {
    return watch_for(fd, false, std::move(handler));
}

Result<Registration> EventLoop::watch_writable(int fd, std::function<void()> handler) {
    return watch_for(fd, true, std::move(handler));
}

Result<Registration> EventLoop::watch_for(int fd, bool writable, std::function<void()> handler) {
    const int own = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return fail_errno(Errc::host_error, "cannot duplicate a watched descriptor", "raise ulimit -n");
    std::shared_ptr<Watch> watch;
    try {
        watch = std::make_shared<Watch>(*impl_, own, writable, std::move(handler));
    } catch (const boost::system::system_error& error) {
        ::close(own);
        return fail(Errc::host_error, std::string{"cannot watch a descriptor: "} + error.what());
    }
    if (auto* const mine = apart())
        mine->waiting_.emplace_back([watch] {
            if (!watch->cancelled)
                watch->arm();
        });
    else
        watch->arm();
    return Registration{[watch] {
        watch->cancelled = true;
        boost::system::error_code ignored;
        watch->descriptor.close(ignored); // NOLINT(bugprone-unused-return-value)
    }};
}

Registration EventLoop::after(std::chrono::nanoseconds delay, std::function<void()> handler) {
    auto timer = std::make_shared<asio::steady_timer>(impl_->context, delay);
    auto cancelled = std::make_shared<bool>(false);
    auto begin = [&loop = *impl_, timer, cancelled, call = std::move(handler)]() mutable {
        timer->async_wait([&loop, timer, cancelled, call = std::move(call)](const boost::system::error_code& error) {
            if (error || *cancelled)
                return;
            loop.run_urgent();
            if (!*cancelled)
                call();
        });
    };
    if (auto* const mine = apart())
        mine->waiting_.emplace_back([cancelled, begin = std::move(begin)]() mutable {
            if (!*cancelled)
                begin();
        });
    else
        begin();
    return Registration{[timer, cancelled] {
        *cancelled = true;
        timer->cancel();
    }};
}

} // namespace inox
