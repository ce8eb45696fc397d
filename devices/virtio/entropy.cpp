// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/entropy.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/random.h>

#include "vmm/base/state.hpp"

namespace inox::devices::virtio {
namespace {

constexpr unsigned batch = 8;

/// Fills the pieces in order; returns how many bytes from the start are random.
std::uint64_t fill(std::span<const iovec> pieces) {
    std::uint64_t done = 0;
    for (const iovec& piece : pieces) {
        for (std::size_t at = 0; at < piece.iov_len;) {
            const ssize_t got = ::getrandom(static_cast<std::byte*>(piece.iov_base) + at, piece.iov_len - at, 0);
            if (got < 0 && errno != EINTR)
                return done;
            at += got > 0 ? static_cast<std::size_t>(got) : 0;
            done += got > 0 ? static_cast<std::uint64_t>(got) : 0;
        }
    }
    return done;
}

} // namespace

Result<std::shared_ptr<Entropy>> Entropy::create(const EntropyOptions& options, EventLoop& loop) {
    return std::shared_ptr<Entropy>{new Entropy{options, loop}};
}

Entropy::Entropy(const EntropyOptions& options, EventLoop& loop)
    : Device{options.id + " (virtio-rng)"}, loop_{loop}, limiter_{options.limits, RateLimiter::Time::clock::now()} {}

void Entropy::read_config(std::uint64_t, std::span<std::byte> data) noexcept {
    std::ranges::fill(data, std::byte{0}); // 5.4.4: the device has no configuration
}

/// No random bytes: each guest gets its own.
void Entropy::on_state(State& state) {
    state.version(1);
    state.part("limits", [this](State& part) { limiter_.state(part, RateLimiter::Time::clock::now()); });
}

void Entropy::on_kick(unsigned index) noexcept {
    Queue* ring = queue(index);
    const auto hold = memory().hold();
    if (!ring->refresh())
        return;
    const auto served = serve(*ring, chain_, batch, [&](Chain& chain) { return serve_one(*ring, chain); });
    signal(index);
    if (served == Served::more)
        again(std::chrono::nanoseconds{0});
}

/// False when the rate limit does not allow the request yet.
bool Entropy::serve_one(Queue& queue, Chain& chain) noexcept {
    if (chain.writable.empty() || !chain.readable.empty())
        note_bad_request("a request for random bytes is not writable");
    keep_front(chain.writable, max_bytes);
    chain.work +=
        static_cast<std::uint32_t>(Turn::system_call * chain.writable.size() + Chain::bytes(chain.writable) / 64);
    const auto wait = limiter_.spend(Chain::bytes(chain.writable), RateLimiter::Time::clock::now());
    if (wait.count() != 0) {
        again(wait);
        return false;
    }
    const std::uint64_t done = fill(chain.writable);
    given_.fetch_add(done, std::memory_order_relaxed);
    queue.push(chain.head, static_cast<std::uint32_t>(done));
    return true;
}

void Entropy::again(std::chrono::nanoseconds delay) noexcept {
    timer_ = loop_.after(delay, [this] { kick(0); });
}

} // namespace inox::devices::virtio
