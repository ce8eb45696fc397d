// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/beside_loop.hpp"

#include <utility>

#include "vmm/base/outside/outside.hpp"

namespace inox {

void BesideLoop::run(Begin begin, End end) {
    changes_.push_back({std::move(begin), std::move(end)});
    next();
}

void BesideLoop::next() {
    while (!changes_.empty() && !at_work_) {
        at_work_ = true; // whatever is asked for meanwhile comes later
        auto work = stopped_ ? Result<Work>{fail(Errc::wrong_state, "the machine ends")} : changes_.front().begin();
        auto ready = work ? get_ready() : Result<void>{std::unexpected{work.error()}};
        if (ready)
            return thread_.post([this, alive = std::weak_ptr{alive_}, work = *std::move(work)]() mutable {
                {
                    const EventLoop::Apart apart{loop_};
                    const outside::Until until{stop_now_->fd()};
                    work();
                    work = nullptr;
                }
                loop_.post([this, alive] {
                    if (alive.lock())
                        on_done();
                });
            });
        auto end = std::move(changes_.front().end);
        changes_.pop_front();
        at_work_ = false;
        end(std::move(ready));
    }
}

Result<void> BesideLoop::get_ready() {
    if (!stop_now_)
        stop_now_ = TRY(EventFd::create());
    return thread_.start();
}

void BesideLoop::on_done() {
    if (!at_work_)
        return; // stop() came first
    auto end = std::move(changes_.front().end);
    changes_.pop_front();
    end({});
    at_work_ = false;
    next();
}

void BesideLoop::stop() {
    stopped_ = true;
    if (stop_now_)
        stop_now_->signal();
    thread_.finish();
    at_work_ = false;
    for (auto changes = std::exchange(changes_, {}); auto& one : changes)
        one.end(fail(Errc::wrong_state, "the machine ended before that was done"));
}

} // namespace inox
