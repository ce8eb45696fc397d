// SPDX-License-Identifier: Apache-2.0
// One work queue: its configuration, what waits in it, and what has been taken out and is not finished.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "devices/dsa/descriptor.hpp"
#include "devices/dsa/registers.hpp"
#include "devices/dsa/spaces.hpp"

namespace inox {
class State;
}

namespace inox::devices::dsa {

/// A descriptor with the address space it may use.
struct Submission {
    Descriptor descriptor{};        ///< its PASID is the guest's number, for errors; nothing is looked up by it
    std::shared_ptr<Space> space{}; ///< null: without PASID, or its PASID is not known any more
    bool by_pasid{};
    std::uint64_t number{}; ///< counts up over all queues
};

struct QueueCounts {
    std::uint64_t submitted{};
    std::uint64_t retried{};
    std::uint64_t refused{};   ///< dropped: the queue is off, of the other kind or full, or the PASID is not known
    std::uint64_t completed{}; ///< whatever their status
    std::uint64_t faulted{};   ///< of these, with a page fault
    std::uint64_t failed{};    ///< of these, with any other error
    std::uint64_t aborted{};
};

/// Not synchronised: the accelerator's lock covers it.
class WorkQueue {
public:
    enum class State : std::uint8_t { disabled = 0, enabled = 1, busy = 2 };

    // Configuration, as the driver wrote it.
    [[nodiscard]] std::uint32_t word(unsigned index) const;
    /// Takes effect while the queue is disabled, and the size only while the device is.
    void write(unsigned index, std::uint32_t value, bool device_enabled);
    [[nodiscard]] std::uint32_t size() const { return words_[wq::size_word] & 0xffff; }
    [[nodiscard]] std::uint32_t threshold() const { return words_[wq::threshold_word] & 0xffff; }
    [[nodiscard]] bool dedicated() const { return (words_[wq::mode_word] & wq::dedicated) != 0; }
    [[nodiscard]] bool pasid_enabled() const { return (words_[wq::mode_word] & wq::pasid_enable) != 0; }
    [[nodiscard]] bool privileged() const { return (words_[wq::mode_word] & wq::privileged) != 0; }
    [[nodiscard]] iommu::GuestPasid pasid() const { return iommu::GuestPasid{words_[wq::mode_word] >> 8 & 0xfffff}; }
    [[nodiscard]] unsigned priority() const { return words_[wq::mode_word] >> 4 & 0xf; }
    [[nodiscard]] std::uint64_t max_transfer() const { return 1ULL << (words_[wq::shift_word] & 0x1f); }
    [[nodiscard]] std::uint32_t max_batch() const { return 1U << (words_[wq::shift_word] >> 5 & 0xf); }
    /// none when the queue may be enabled. `pasid_on`: the function's PASID capability is.
    [[nodiscard]] CommandError check(bool pasid_on) const;

    // Life.
    [[nodiscard]] State state() const { return state_; }
    /// `space`: of a dedicated queue with PASID; held until disable().
    void enable(std::shared_ptr<Space> space);
    void stop_accepting() { state_ = State::busy; }
    /// Nothing may wait or run any more.
    void disable();
    /// Its PASID is gone: off as soon as nothing runs.
    void revoke();
    /// The size is part of the device's configuration and stays while that is on.
    void reset_config(bool device_enabled);
    [[nodiscard]] const std::shared_ptr<Space>& space() const { return space_; }

    // Work.
    [[nodiscard]] bool has_room(bool limited) const;
    void push(Submission submission) { waiting_.push_back(std::move(submission)); }
    [[nodiscard]] bool empty() const { return waiting_.empty(); }
    [[nodiscard]] std::size_t occupancy() const { return waiting_.size(); }
    /// The next descriptor may be taken: a drain waits for those before it.
    [[nodiscard]] bool ready() const;
    Submission pop();
    void finished();
    [[nodiscard]] unsigned running() const { return running_; }
    /// Drops what waits, all of it or that of one PASID.
    void abort(std::optional<iommu::HostPasid> pasid);
    /// Something waits that was submitted up to `number` (by this PASID).
    [[nodiscard]] bool waits(std::uint64_t number, std::optional<iommu::HostPasid> pasid) const;

    /// The configuration, while nothing waits or runs. Restoring: into a queue that is disabled.
    void state(inox::State& state);

    unsigned credit{}; ///< descriptors it may still send in this round of its group
    QueueCounts counts{};

private:
    std::array<std::uint32_t, wq::words> words_{};
    State state_{State::disabled};
    std::shared_ptr<Space> space_{};
    std::deque<Submission> waiting_{};
    unsigned running_{};
    bool revoked_{};
};

} // namespace inox::devices::dsa
