// SPDX-License-Identifier: Apache-2.0
// What a machine and its vCPUs need of a debugger.
#pragma once

#include "vmm/kvm/vcpu.hpp"

namespace inox {

class Machine;

/// Outlives the machines that know it.
class Debugger {
public:
    virtual ~Debugger() = default;
    /// On the loop's thread: a machine was made, and nothing of it runs yet. Machine::hold() keeps it so.
    virtual void attach(Machine& machine) = 0;
    /// On the loop's thread: the machine that was attached goes.
    virtual void detach() noexcept = 0;
    /// On the loop's thread: the guest's kernel panicked, a moment ago.
    virtual void on_panic() = 0;
    /// On a vCPU's thread, which reached a breakpoint or ended a step. It passes the gate before it runs again.
    virtual void on_debug_exit(Vcpu& vcpu, const vm_exit::Debug& exit) noexcept = 0;
};

} // namespace inox
