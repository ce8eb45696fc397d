// SPDX-License-Identifier: Apache-2.0
// What is in the slots of the root bus that the device table fills, as far as both sides know it.
#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>
#include <optional>

#include "devices/pci/root_bus.hpp"

namespace inox {

///             promise   fill              vacate   tear_out              ejected
///   empty     promised  filled/permanent                                 empty
///   promised            filled/permanent  empty
///   filled                                empty    torn_out/held         (vacate, once the bus has lost it)
///   torn_out  promised  filled/permanent                                 empty
///   held                                                                 empty
enum class SlotState : std::uint8_t {
    empty,
    promised,  ///< a device is on its way to it
    filled,    ///< has a device
    permanent, ///< has one that others depend on: it does not leave
    torn_out,  ///< the device went by force, and the guest has not ejected it
    held,      ///< the same, and a driver of the guest's was using it: no place for another device
};

/// A device has its slot for itself. On the loop's thread unless it says otherwise.
class DeviceSlots {
public:
    static constexpr unsigned count = devices::pci::RootBus::slots;
    using Set = std::bitset<count>;

    [[nodiscard]] SlotState state(unsigned slot) const { return states_.at(slot).load(std::memory_order_relaxed); }
    [[nodiscard]] bool any(SlotState state) const;
    /// For a new device: the empty slot that has been so for longest, so that what the guest still has to say about an
    /// old device does not hit a new one; else a torn-out one. nullopt when there is neither.
    [[nodiscard]] std::optional<std::uint8_t> choose() const;

    void promise(unsigned slot);
    void fill(unsigned slot, bool permanent);
    void vacate(unsigned slot);
    /// `driven`: a driver of the guest's may still wait for what is left there.
    void tear_out(unsigned slot, bool driven);

    /// Any thread: the guest gave the slot back. True: the loop must take_ejected(), which it does not know yet.
    [[nodiscard]] bool eject(unsigned slot) noexcept { return ejected_.fetch_or(1U << slot) == 0; }
    /// Any thread: false for a slot that the guest cannot give back.
    [[nodiscard]] bool ejectable(unsigned slot) const noexcept { return state(slot) != SlotState::permanent; }
    /// The slots that eject() named since the last call. Those without a device are empty now.
    Set take_ejected();

private:
    void set(unsigned slot, SlotState state) { states_.at(slot).store(state, std::memory_order_relaxed); }
    /// The device of a filled slot goes.
    void leave(unsigned slot, SlotState next);

    std::array<std::atomic<SlotState>, count> states_{};
    std::array<std::uint64_t, count> left_{}; ///< when a slot last lost its device; 0: never
    std::uint64_t departures_{0};             ///< the clock of left_
    std::atomic<std::uint32_t> ejected_{0};   ///< until the loop looks
};

} // namespace inox
