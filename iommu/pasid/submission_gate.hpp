// SPDX-License-Identifier: Apache-2.0
// Submissions in flight: a thread that removes a translation waits here until no submission can still use it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>

namespace inox::iommu {

/// Thread-safe. Entering never waits. A pass counts in the phase it was taken in; drain() changes the phase and waits
/// for the old one to empty, so submissions that begin later do not hold it up.
class SubmissionGate {
public:
    /// Must be given back on any thread, soon.
    class [[nodiscard]] Pass {
    public:
        Pass() = default;
        Pass(Pass&& other) noexcept : count_{std::exchange(other.count_, nullptr)} {}
        Pass& operator=(Pass&& other) noexcept {
            if (this != &other) {
                leave();
                count_ = std::exchange(other.count_, nullptr);
            }
            return *this;
        }
        Pass(const Pass&) = delete;
        Pass& operator=(const Pass&) = delete;
        ~Pass() { leave(); }

    private:
        friend class SubmissionGate;
        explicit Pass(std::atomic<std::uint64_t>* count) : count_{count} {}
        void leave() noexcept {
            if (count_)
                count_->fetch_sub(1, std::memory_order_release);
        }
        std::atomic<std::uint64_t>* count_{};
    };

    Pass enter() noexcept {
        for (auto& lane = lanes_[lane_index()];;) {
            const auto phase = phase_.load();
            auto& count = lane.counts[phase % 2];
            count.fetch_add(1);
            // Either drain() sees the count, or we see its new phase, and then also what it wants seen.
            if (phase_.load() == phase)
                return Pass{&count};
            count.fetch_sub(1);
        }
    }

    /// Returns when every pass taken before the call is back. What the caller stored before is seen by every pass taken
    /// later. Not with a pass in hand.
    void drain() noexcept {
        std::lock_guard lock{mutex_};
        const auto old = phase_.fetch_add(1);
        for (auto& lane : lanes_)
            while (lane.counts[old % 2].load() != 0)
                std::this_thread::yield();
    }

    /// Passes out now; a moment's picture.
    [[nodiscard]] std::uint64_t in_flight() const noexcept {
        std::uint64_t sum = 0;
        for (const auto& lane : lanes_)
            sum += lane.counts[0].load(std::memory_order_relaxed) + lane.counts[1].load(std::memory_order_relaxed);
        return sum;
    }

private:
    // Threads count in different cache lines, while there are not too many.
    static constexpr std::size_t lane_count = 16;
    struct alignas(64) Lane {
        std::array<std::atomic<std::uint64_t>, 2> counts{};
    };
    static std::size_t lane_index() noexcept {
        static std::atomic<std::size_t> next{0};
        thread_local const std::size_t mine = next.fetch_add(1, std::memory_order_relaxed) % lane_count;
        return mine;
    }

    std::array<Lane, lane_count> lanes_{};
    alignas(64) std::atomic<std::uint64_t> phase_{0};
    std::mutex mutex_; ///< one drain at a time
};

} // namespace inox::iommu
