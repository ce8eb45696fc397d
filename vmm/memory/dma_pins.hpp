// SPDX-License-Identifier: Apache-2.0
// Addresses that I/O uses while nobody holds the memory (DmaMemory::hold()) are pinned. Whoever removes a translation
// collects the pins that its answer has to wait for, and does not wait on its own thread.
//
//   device   pin.ranges = {...}; memory.pin(pin);        // under the hold of the translation
//            pin.release();                              // after the last access: any thread, no hold
//   IOMMU    DmaDrain drain; pins.collect(range, drain); // nobody holds, the translation is gone
//            drain.when_done(answer_the_guest);
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "vmm/base/address.hpp"
#include "vmm/base/range.hpp"

namespace inox {

class DmaPins;

/// What one answer waits for: the pins that existed when it was asked for, and no later ones. Used by one thread at a
/// time; any thread releases pins.
class DmaDrain {
public:
    /// There were no pins, or all of them are released.
    [[nodiscard]] bool done() const;
    /// Calls `call` when all pins are released: now, or on the thread that releases the last pin, with that thread's
    /// locks held. Set it once.
    void when_done(std::function<void()> call);
    /// The guest has waited too long: notifies the owners of the pins that remain.
    void hurry();

private:
    friend class DmaPins;
    friend class DmaPin;
    struct State;
    std::shared_ptr<State> state_{}; ///< null: there were no pins
};

/// What one request under way uses. Stays where it is while it is pinned.
class DmaPin {
public:
    class Owner {
    public:
        Owner() = default;
        Owner(const Owner&) = delete;
        Owner& operator=(const Owner&) = delete;
        virtual ~Owner() = default;
        /// Pins of yours are overdue(): give them up. On the thread of DmaDrain::hurry(), without locks.
        virtual void pins_overdue() noexcept = 0;
    };

    DmaPin() = default;
    DmaPin(const DmaPin&) = delete;
    DmaPin& operator=(const DmaPin&) = delete;
    ~DmaPin() { release(); }

    /// There is no access any more. Runs what waited for this pin alone.
    void release() noexcept;
    [[nodiscard]] bool overdue() const;

    // Set while it is not pinned.
    std::vector<Range<Iova>> ranges{};
    std::weak_ptr<Owner> owner{};

private:
    friend class DmaPins;
    friend class DmaDrain;
    std::shared_ptr<DmaPins> pins_{}; ///< null: not pinned
    // Guarded by the mutex of *pins_.
    std::size_t place_{};
    Range<Iova> hull_{Range<Iova>::full()}; ///< all ranges lie in it
    std::vector<std::shared_ptr<DmaDrain::State>> waiting_{};
    bool overdue_{false};
};

/// All pins of one device. Thread-safe; its lock is taken last.
class DmaPins : public std::enable_shared_from_this<DmaPins> {
public:
    static std::shared_ptr<DmaPins> create() { return std::make_shared<DmaPins>(); }

    void add(DmaPin& pin);
    /// Adds the pins in the range to what `drain` waits for.
    void collect(Range<Iova> range, DmaDrain& drain);

private:
    friend class DmaPin;
    friend class DmaDrain;
    mutable std::mutex mutex_; // guards all below
    std::vector<DmaPin*> pins_{};
};

} // namespace inox
