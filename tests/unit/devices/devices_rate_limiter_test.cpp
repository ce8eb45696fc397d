// SPDX-License-Identifier: Apache-2.0
#include "devices/rate_limiter.hpp"

#include <cmath>
#include <limits>

#include "tests/catch.hpp"

namespace inox::devices_rate_limiter_test {

using devices::BucketLimits;
using devices::RateLimiter;
using namespace std::chrono_literals;

namespace {

using Time = RateLimiter::Time;
using std::chrono::nanoseconds;

/// How many bytes pass in `duration` when every request of `bytes` is sent as soon as the limiter allows it, by a
/// caller whose timers are `late`.
std::uint64_t bytes_through(RateLimiter& limiter, std::uint64_t bytes, Time from, nanoseconds duration,
                            nanoseconds late = 0ns) {
    std::uint64_t sum = 0;
    for (Time now = from; now < from + duration;) {
        if (const auto wait = limiter.spend(bytes, now); wait > 0ns)
            now += wait + late;
        else
            sum += bytes;
    }
    return sum;
}

double off(std::uint64_t seen, double wanted) { return std::abs(static_cast<double>(seen) - wanted) / wanted; }

} // namespace

TEST_CASE("no limits let everything through at once") {
    RateLimiter limiter;
    CHECK(limiter.unlimited());
    CHECK(limiter.spend(std::numeric_limits<std::uint64_t>::max(), Time{}) == 0ns);
    // A size of 0 or a refill time of 0 means no limit, too.
    RateLimiter zero{{BucketLimits{0, 0, 100ms}, BucketLimits{10, 0, 0ms}}, Time{}};
    CHECK(zero.unlimited());
}

TEST_CASE("a bucket lets its size through at once, then tells how long to wait") {
    RateLimiter limiter{{BucketLimits{1000, 0, 100ms}, {}}, Time{}};
    CHECK(limiter.spend(600, Time{}) == 0ns);
    CHECK(limiter.spend(400, Time{}) == 0ns);
    CHECK(limiter.spend(100, Time{}) == 10ms);
    CHECK(limiter.spend(100, Time{} + 9'999'999ns) == 1ns);
    CHECK(limiter.spend(100, Time{} + 10ms) == 0ns);
    CHECK(limiter.spend(1, Time{} + 10ms) == 100us);
}

TEST_CASE("a bucket never holds more than its size") {
    RateLimiter limiter{{BucketLimits{1000, 0, 100ms}, {}}, Time{}};
    CHECK(limiter.spend(1000, Time{} + 1h) == 0ns);
    CHECK(limiter.spend(1, Time{} + 1h) > 0ns);
}

TEST_CASE("a burst is spent first and never comes back") {
    RateLimiter limiter{{{}, BucketLimits{10, 5, 1000ms}}, Time{}};
    for (int i = 0; i < 15; ++i)
        CHECK(limiter.spend(0, Time{}) == 0ns);
    CHECK(limiter.spend(0, Time{}) == 100ms);
    for (int i = 0; i < 10; ++i)
        CHECK(limiter.spend(0, Time{} + 10s) == 0ns);
    CHECK(limiter.spend(0, Time{} + 10s) == 100ms);
}

TEST_CASE("the rate holds within 10 percent for small, large and oversized requests and late timers") {
    for (const std::uint64_t bytes : {512U, 4096U, 65536U, 1U << 20U, 8U << 20U}) {
        for (const nanoseconds late : {nanoseconds{0}, nanoseconds{1ms}, nanoseconds{10ms}}) {
            RateLimiter limiter{{BucketLimits{1 << 20, 0, 100ms}, {}}, Time{}}; // 10 MiB/s
            (void)bytes_through(limiter, bytes, Time{}, 1s, late);              // the first bucket comes in addition
            const auto through = bytes_through(limiter, bytes, Time{} + 2s, 60s, late);
            CAPTURE(bytes, late.count(), through);
            CHECK(off(through, 60.0 * 10 * (1 << 20)) < 0.10);
        }
    }
}

TEST_CASE("operations are held to their rate whatever their size") {
    RateLimiter limiter{{{}, BucketLimits{100, 0, 1000ms}}, Time{}};
    const auto through = bytes_through(limiter, 1, Time{}, 100s, 1ms);
    CHECK(off(through, 100 * 100 + 100) < 0.02);
}

TEST_CASE("with both limits the tighter one counts, and a refused request costs nothing") {
    RateLimiter limiter{{BucketLimits{1000, 0, 100ms}, BucketLimits{2, 0, 100ms}}, Time{}};
    CHECK(limiter.spend(1000, Time{}) == 0ns);
    CHECK(limiter.spend(1000, Time{}) == 100ms);
    CHECK(limiter.spend(0, Time{}) == 0ns);
    CHECK(limiter.spend(0, Time{}) == 50ms);
}

TEST_CASE("a request larger than the bucket goes when the bucket is full, and the next one pays for it") {
    RateLimiter limiter{{BucketLimits{1000, 0, 100ms}, {}}, Time{}};
    CHECK(limiter.spend(3000, Time{}) == 0ns);
    CHECK(limiter.spend(1000, Time{}) == 300ms);
    CHECK(limiter.spend(0, Time{}) == 0ns);
}

TEST_CASE("new limits replace only what they name") {
    RateLimiter limiter{{BucketLimits{1000, 0, 100ms}, BucketLimits{1, 0, 100ms}}, Time{}};
    CHECK(limiter.spend(1000, Time{}) == 0ns);
    limiter.update({{}, BucketLimits{5, 0, 100ms}}, Time{});
    CHECK(limiter.spend(10, Time{}) == 1ms);
    limiter.update({BucketLimits{0, 0, 0ms}, {}}, Time{});
    CHECK(limiter.spend(1 << 30, Time{}) == 0ns);
    CHECK_FALSE(limiter.unlimited());
}

TEST_CASE("extreme limits and clocks that step back do no harm") {
    constexpr auto most = std::numeric_limits<std::uint64_t>::max();
    constexpr std::chrono::milliseconds longest{std::numeric_limits<std::int64_t>::max()};
    RateLimiter limiter{{BucketLimits{most, most, longest}, {}}, Time{}};
    CHECK(limiter.spend(most, Time{}) == 0ns);
    CHECK(limiter.spend(most, Time{}) == 0ns);
    CHECK(limiter.spend(most, Time{}) > 0ns);
    CHECK(limiter.spend(most, Time::max()) == 0ns);
    CHECK(limiter.spend(1, Time::min()) > 0ns);
    RateLimiter slow{{BucketLimits{1, 0, longest}, {}}, Time{}};
    CHECK(slow.spend(most, Time{}) == 0ns);
    CHECK(slow.spend(1, Time::max()) > 0ns);
}

} // namespace inox::devices_rate_limiter_test
