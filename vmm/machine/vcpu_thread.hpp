// SPDX-License-Identifier: Apache-2.0
// The thread of one vCPU: runs the guest, sends its accesses to the buses, reports how it ended.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <latch>
#include <memory>
#include <thread>

#include "devices/guest_events.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/kvm/exit_table.hpp"
#include "vmm/kvm/vcpu.hpp"
#include "vmm/machine/debugger.hpp"
#include "vmm/machine/enqueue_emulator.hpp"
#include "vmm/machine/run_gate.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

struct VcpuContext {
    PortBus& ports;
    MemoryBus& memory;
    const GuestMemory& ram;
    RunGate& gate;
    Timeline& timeline;
    devices::GuestEvents& guest;
    /// The guest cannot go on. Called once, on the vCPU's thread.
    std::function<void(Error)> on_fatal;
    /// Instructions that KVM leaves to us, and IA32_PASID; null for a machine without them.
    EnqueueEmulator* enqueue{nullptr};
    Debugger* debugger{nullptr}; ///< null for a machine without one
};

class VcpuThread {
public:
    VcpuThread(std::unique_ptr<Vcpu> vcpu, VcpuContext context);
    /// The gate must be stopping; joins.
    ~VcpuThread();
    VcpuThread(const VcpuThread&) = delete;
    VcpuThread& operator=(const VcpuThread&) = delete;

    /// Once. The guest runs when everybody has arrived at `all_confined`: one for each vCPU, and the caller. It
    /// outlives this. host_error when no thread can be had.
    Result<void> start(std::latch& all_confined);
    /// Makes the thread look at the gate soon, whatever the guest does. Any thread.
    void kick() noexcept;
    /// Asks whether the vCPU makes progress. The answer is ready after the vCPU passed the gate: soon when it is
    /// kicked, else after its next exit.
    void ask_stuck(bool kicked = true) noexcept;
    /// Of the last ask_stuck(), Vcpu::stuck(): 1 stuck, 0 not, -1 not answered yet.
    [[nodiscard]] int stuck() const noexcept { return stuck_.load(std::memory_order_acquire); }
    /// Asks whether it takes no interrupt (Vcpu::deaf), in the same way; deaf() is -1 until it has answered.
    void ask_deaf() noexcept;
    [[nodiscard]] int deaf() const noexcept { return deaf_.load(std::memory_order_acquire); }
    /// How many of the last calls of ask_stuck() in a row found it at the same instruction with the same registers,
    /// where that is one that KVM may try for ever (no_progress.hpp).
    [[nodiscard]] unsigned standing() const noexcept { return standing_.load(std::memory_order_acquire); }
    /// The instruction it stands at; valid after standing() was not 0, until the next ask_stuck().
    [[nodiscard]] Error standing_error() const;

    [[nodiscard]] Vcpu& vcpu() { return *vcpu_; }
    /// IA32_PASID, which KVM does not know. While the thread is parked, or was not started.
    [[nodiscard]] std::uint64_t pasid_register() const noexcept { return ia32_pasid_; }
    void set_pasid_register(std::uint64_t value) noexcept { ia32_pasid_ = value; }
    /// Exits to user space so far.
    [[nodiscard]] std::uint64_t exits() const noexcept { return exits_.load(std::memory_order_relaxed); }
    /// From now on exits are counted by reason and place. On the loop's thread.
    void count_exits();
    /// Null while they are not. On the loop's thread.
    [[nodiscard]] const ExitTable* exit_table() const { return exit_table_.get(); }

private:
    void loop() noexcept;
    /// What the last exit left for the next entry is done, so that the registers are those after its instruction.
    bool finish_exit() noexcept;
    /// False: leave the loop.
    bool handle(const VmExit& exit) noexcept;
    void access_msr(const vm_exit::MsrAccess& msr) noexcept;
    bool emulate(const vm_exit::EmulationFailure& failure) noexcept;
    [[nodiscard]] Error describe(const VmExit& exit) const;
    void look_where_it_stands() noexcept;

    std::unique_ptr<Vcpu> vcpu_;
    VcpuContext context_;
    std::atomic<std::uint64_t> exits_{0};
    std::unique_ptr<ExitTable> exit_table_{};
    std::atomic<ExitTable*> counting_{nullptr}; ///< the same, for the thread
    std::atomic<bool> asked_{false};
    std::atomic<int> stuck_{-1};
    std::atomic<bool> asked_deaf_{false};
    std::atomic<int> deaf_{-1};
    std::atomic<unsigned> standing_{0};
    kvm_regs stood_at_{}; // of the thread, like the next; published by standing_
    std::vector<std::uint8_t> instruction_{};
    std::uint64_t ia32_pasid_{0}; // of the thread
    std::thread thread_;
};

} // namespace inox
