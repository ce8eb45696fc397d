// SPDX-License-Identifier: Apache-2.0
// Addresses that I/O uses while nobody holds the memory (DmaMemory::hold()): they are pinned, and who takes a
// translation away learns which I/O it has to wait for, without waiting on its own thread.
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

/// What one answer waits for: pins that stood when it was asked for, later ones are not its business. One thread at a
/// time; pins are released by any.
class DmaDrain {
public:
    /// Nothing was in the way, or all of it is gone.
    [[nodiscard]] bool done() const;
    /// Once nothing is in the way: now, or on the thread that releases the last pin, with that thread's locks held.
    /// Once.
    void when_done(std::function<void()> call);
    /// The guest has waited too long: tells the owners of what is still in the way.
    void hurry();

private:
    friend class DmaPins;
    friend class DmaPin;
    struct State;
    std::shared_ptr<State> state_{}; ///< null: nothing was in the way
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

    /// No access any more. Whoever waited for this pin alone goes on from here.
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
    /// Those of the range are what `drain` waits for, too.
    void collect(Range<Iova> range, DmaDrain& drain);
    [[nodiscard]] bool empty() const;

private:
    friend class DmaPin;
    friend class DmaDrain;
    mutable std::mutex mutex_; // guards all below
    std::vector<DmaPin*> pins_{};
};

} // namespace inox
