// SPDX-License-Identifier: Apache-2.0
// What is saved of a device and restored, and how it comes to rest before.
//
//   a save      drain() until it is true, state(), resume()
//   a restore   on a device that was just made and whose guest never ran: state(), then, once the interrupt
//               controllers have theirs, resume()
//
// No vCPU runs during any of it, nor between drain() and resume().
#pragma once

#include <optional>
#include <string>

namespace inox {

class State;

/// On the loop's thread, or before it runs.
class Stateful {
public:
    Stateful() = default;
    Stateful(const Stateful&) = delete;
    Stateful& operator=(const Stateful&) = delete;
    virtual ~Stateful() = default;

    /// Each field of it, in both directions. Restoring puts things in place and does no more: it interrupts nobody,
    /// reads no guest memory and starts no work. After a fault the device is only good for being destroyed.
    virtual void state(State& state) = 0;
    /// Why it cannot be saved, with its name; ask before all else.
    [[nodiscard]] virtual std::optional<std::string> unsaveable() const { return std::nullopt; }
    /// Takes up no more work from now on. True once what was under way has ended: it touches no guest memory. While it
    /// is false, ask again: the loop has to run for it.
    [[nodiscard]] virtual bool drain() noexcept { return true; }
    /// Takes up work again. What was restored interrupts for all that may be news to the guest.
    virtual void resume() noexcept {}
};

} // namespace inox
