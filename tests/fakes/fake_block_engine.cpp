// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/fake_block_engine.hpp"

#include <algorithm>

namespace inox::fakes {

void FakeBlockEngine::submit(Job& job) noexcept {
    seen.push_back({job.kind, job.offset, job.length, job.durable, job.unmap});
    if (finish_at_once) {
        job.error = error;
        finished_.push_back(&job);
    } else {
        waiting.push_back(&job);
    }
}

FakeBlockEngine::Job* FakeBlockEngine::take_finished() noexcept {
    ready_.drain();
    if (finished_.empty())
        return nullptr;
    Job* job = finished_.front();
    finished_.pop_front();
    return job;
}

void FakeBlockEngine::cancel(Job& job) noexcept {
    ++cancels;
    const auto found = std::ranges::find(waiting, &job);
    if (!stubborn && found != waiting.end())
        finish(static_cast<std::size_t>(found - waiting.begin()), ECANCELED);
}

void FakeBlockEngine::finish(std::size_t index, int with_error) {
    Job* job = waiting[index];
    waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(index));
    job->error = with_error;
    finished_.push_back(job);
    ready_.signal();
}

} // namespace inox::fakes
