// SPDX-License-Identifier: Apache-2.0
// Token buckets that hold a disk or a network card to a bandwidth and a number of operations. Pure logic: the caller
// brings the time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace inox {
class State;
}

namespace inox::devices {

/// A bucket holds `size` tokens and fills from empty to full in `refill_time`. It starts full, with `one_time_burst`
/// tokens on top that never come back. A size or refill time of 0 means no limit.
struct BucketLimits {
    std::uint64_t size{};
    std::uint64_t one_time_burst{};
    std::chrono::milliseconds refill_time{};
    bool operator==(const BucketLimits&) const = default;
};

struct RateLimits {
    std::optional<BucketLimits> bandwidth{}; ///< tokens are bytes
    std::optional<BucketLimits> ops{};       ///< tokens are requests
    bool operator==(const RateLimits&) const = default;
};

/// One thread at a time. Exact: no rounding adds up over time.
class TokenBucket {
public:
    using Time = std::chrono::steady_clock::time_point;

    TokenBucket(const BucketLimits& limits, Time now);

    /// How long until `tokens` may be spent; 0 when now. A cost above the bucket's size waits for a full bucket only
    /// and is then owed, so that a large request is slow, not stuck.
    [[nodiscard]] std::chrono::nanoseconds wait(std::uint64_t tokens, Time now);
    /// Takes the tokens; call when wait() is 0.
    void spend(std::uint64_t tokens);
    /// What is left in it; the limits are the configuration's, and what is restored is never above them.
    void state(State& state, Time now);

private:
    // Tokens times the refill time in ns: what one nanosecond adds is then a whole number, the bucket's size.
    __extension__ using Amount = __int128;

    void refill(Time now);

    std::uint64_t size_;
    std::int64_t refill_ns_;
    std::uint64_t burst_;
    Amount level_;
    Time filled_at_;
};

/// Bandwidth and operations together. One thread at a time.
class RateLimiter {
public:
    using Time = TokenBucket::Time;

    /// No limits.
    RateLimiter() = default;
    RateLimiter(const RateLimits& limits, Time now);

    [[nodiscard]] bool unlimited() const { return !bandwidth_ && !ops_; }
    /// Takes `operations` of `bytes` in all and returns 0, or takes nothing and returns when to ask again.
    [[nodiscard]] std::chrono::nanoseconds spend(std::uint64_t bytes, Time now, std::uint64_t operations = 1);
    [[nodiscard]] bool limits_bandwidth() const { return bandwidth_.has_value(); }
    /// Limits that are given replace those in force, with a full bucket; the others go on as they are.
    void update(const RateLimits& limits, Time now);
    /// A bucket that is there on one side only starts full.
    void state(State& state, Time now);

private:
    std::optional<TokenBucket> bandwidth_{};
    std::optional<TokenBucket> ops_{};
};

} // namespace inox::devices
