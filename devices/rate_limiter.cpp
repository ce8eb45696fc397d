// SPDX-License-Identifier: Apache-2.0
#include "devices/rate_limiter.hpp"

#include <algorithm>
#include <limits>

#include "vmm/base/state.hpp"

namespace inox::devices {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// 73 years. With this limit every sum and product below fits 127 bits, whatever the size.
constexpr nanoseconds longest{std::numeric_limits<std::int64_t>::max() / 4};

std::int64_t refill_ns(milliseconds time) {
    return nanoseconds{std::min(time, duration_cast<milliseconds>(longest))}.count();
}

void replace(std::optional<TokenBucket>& bucket, const std::optional<BucketLimits>& limits, TokenBucket::Time now) {
    if (!limits)
        return;
    if (limits->size == 0 || limits->refill_time.count() <= 0)
        bucket.reset();
    else
        bucket.emplace(*limits, now);
}

} // namespace

TokenBucket::TokenBucket(const BucketLimits& limits, Time now)
    : size_{limits.size}, refill_ns_{refill_ns(limits.refill_time)}, burst_{limits.one_time_burst},
      level_{Amount{limits.size} * refill_ns_}, filled_at_{now} {}

void TokenBucket::refill(Time now) {
    if (now <= filled_at_)
        return;
    const nanoseconds elapsed = std::min<nanoseconds>(now - filled_at_, longest);
    filled_at_ = now;
    level_ = std::min(level_ + Amount{size_} * elapsed.count(), Amount{size_} * refill_ns_);
}

nanoseconds TokenBucket::wait(std::uint64_t tokens, Time now) {
    refill(now);
    if (tokens == 0)
        return nanoseconds{0};
    const std::uint64_t from_level = tokens - std::min(tokens, burst_);
    const Amount missing = Amount{std::min(from_level, size_)} * refill_ns_ - level_;
    if (missing <= 0)
        return nanoseconds{0};
    const Amount time = (missing + size_ - 1) / size_;
    return nanoseconds{static_cast<std::int64_t>(std::min(time, Amount{longest.count()}))};
}

void TokenBucket::spend(std::uint64_t tokens) {
    const std::uint64_t from_burst = std::min(tokens, burst_);
    burst_ -= from_burst;
    level_ -= Amount{tokens - from_burst} * refill_ns_;
}

/// The level is saved as the time that filling it took: another size does not matter then. Negative: tokens are owed.
void TokenBucket::state(State& state, Time now) {
    refill(now);
    const Amount size{size_};
    std::int64_t filled = static_cast<std::int64_t>(level_ / size - (level_ % size < 0 ? 1 : 0));
    std::uint64_t burst = burst_;
    state.signed_number("filled_ns", filled);
    state.number("burst", burst);
    state.check(filled >= -longest.count(), "it owes more than there are tokens");
    if (!state.restores() || !state.ok())
        return;
    level_ = Amount{std::min(filled, refill_ns_)} * size;
    burst_ = std::min(burst_, burst);
    filled_at_ = now;
}

void RateLimiter::state(State& state, Time now) {
    const auto bucket = [&](const char* name, std::optional<TokenBucket>& own) {
        bool there = own.has_value();
        state.part(name, [&](State& part) {
            part.flag("limited", there);
            if (part.ok() && there && own)
                own->state(part, now);
        });
    };
    bucket("bandwidth", bandwidth_);
    bucket("ops", ops_);
}

RateLimiter::RateLimiter(const RateLimits& limits, Time now) { update(limits, now); }

void RateLimiter::update(const RateLimits& limits, Time now) {
    replace(bandwidth_, limits.bandwidth, now);
    replace(ops_, limits.ops, now);
}

nanoseconds RateLimiter::spend(std::uint64_t bytes, Time now, std::uint64_t operations) {
    nanoseconds wait{0};
    if (ops_)
        wait = ops_->wait(operations, now);
    if (bandwidth_)
        wait = std::max(wait, bandwidth_->wait(bytes, now));
    if (wait.count() > 0)
        return wait;
    if (ops_)
        ops_->spend(operations);
    if (bandwidth_)
        bandwidth_->spend(bytes);
    return wait;
}

} // namespace inox::devices
