// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/entropy.hpp"

#include <set>

#include "tests/catch.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_entropy_test {

using namespace devices::virtio;
using namespace std::chrono_literals;
using tests::run_until;

namespace {

struct Guest {
    EventLoop loop{};
    fakes::VirtioDriver driver{};
    std::shared_ptr<Entropy> rng;

    explicit Guest(const EntropyOptions& options = {}) : rng{*Entropy::create(options, loop)} {
        driver.activate(*rng, 0);
    }
    ~Guest() { rng->reset(); }
};

} // namespace

TEST_CASE("every piece of a request is filled with random bytes") {
    Guest guest;
    const auto pieces = guest.driver[0].chain().writable(100).writable(1).writable(5000).post();
    guest.rng->kick(0);
    CHECK(guest.driver[0].used()->length == 5101);
    std::set<std::string> seen;
    for (const auto& piece : pieces)
        for (std::uint32_t at = 0; at + 16 <= piece.length; at += 16)
            CHECK(seen.insert(guest.driver.ram.text(piece.address + at, 16)).second);
    CHECK(guest.rng->bytes_given() == 5101);
    CHECK(guest.driver.notifier.used[0] == 1);
}

TEST_CASE("an enormous request gets a part, so that the loop stays free") {
    Guest guest;
    guest.driver[0].chain().raw({0x200000, 8 << 20, true}).post();
    guest.rng->kick(0);
    CHECK(guest.driver[0].used()->length == Entropy::max_bytes);
}

TEST_CASE("many requests are answered in turns, without another kick") {
    Guest guest;
    for (int i = 0; i < 100; ++i)
        guest.driver[0].chain().writable(16).post();
    guest.rng->kick(0);
    unsigned answered = 0;
    CHECK(run_until(guest.loop, [&] {
        while (guest.driver[0].used())
            ++answered;
        return answered == 100;
    }));
}

TEST_CASE("a request that cannot be written comes back empty") {
    Guest guest;
    guest.driver[0].chain().readable("give me").post();
    guest.driver[0].chain().readable("give me").writable(8).post();
    guest.rng->kick(0);
    CHECK(guest.driver[0].used()->length == 0);
    CHECK(guest.driver[0].used()->length == 8);
    CHECK(guest.rng->counters().bad_requests == 2);
    CHECK(guest.driver.notifier.broken == 0);
}

TEST_CASE("a rate limit makes requests wait") {
    Guest guest{{.limits = {.bandwidth = devices::BucketLimits{.size = 1000, .refill_time = 50ms}}}};
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 4; ++i)
        guest.driver[0].chain().writable(1000).post();
    guest.rng->kick(0);
    unsigned answered = 0;
    CHECK(run_until(guest.loop, [&] {
        while (guest.driver[0].used())
            ++answered;
        return answered == 4;
    }));
    CHECK(std::chrono::steady_clock::now() - begin >= 140ms);
}

TEST_CASE("a reset while a request waits for the rate limit leaves nothing behind") {
    Guest guest{{.limits = {.ops = devices::BucketLimits{.size = 1, .refill_time = 10ms}}}};
    guest.driver[0].chain().writable(8).post();
    guest.driver[0].chain().writable(8).post();
    guest.rng->kick(0);
    guest.rng->reset();
    tests::run_for(guest.loop, 30ms);
    guest.driver.activate(*guest.rng, 0);
    guest.driver[0].chain().writable(8).post();
    guest.rng->kick(0);
    CHECK(guest.driver[0].used()->length == 8);
}

} // namespace inox::virtio_entropy_test
