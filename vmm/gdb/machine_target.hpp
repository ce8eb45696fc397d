// SPDX-License-Identifier: Apache-2.0
// The machine of this process as a debugger's target: breakpoints and steps by KVM_SET_GUEST_DEBUG, memory by the
// guest's page tables. While there is no breakpoint and no step, no vCPU is in a debug mode: it then runs as without.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "vmm/base/event_loop.hpp"
#include "vmm/gdb/target.hpp"
#include "vmm/machine/debugger.hpp"
#include "vmm/machine/machine.hpp"

namespace inox::gdb {

class MachineTarget final : public Target, public Debugger {
public:
    /// On the loop's thread.
    struct Owner {
        std::function<void(const Stop&)> stopped; ///< the guest ran, and stands still now
        std::function<void()> ready;              ///< a machine is there
        std::function<void()> kill;
    };
    /// `wait`: the first machine stands still before its first instruction.
    MachineTarget(EventLoop& loop, bool wait, Owner owner) : loop_{loop}, owner_{std::move(owner)}, hold_next_{wait} {}

    [[nodiscard]] bool ready() const { return machine_ != nullptr; }

    // Debugger.
    void attach(Machine& machine) override;
    void detach() noexcept override;
    void on_panic() override;
    void on_debug_exit(Vcpu& vcpu, const vm_exit::Debug& exit) noexcept override;

    // Target.
    [[nodiscard]] unsigned vcpus() const override { return machine_ ? machine_->vcpu_count() : 1; }
    [[nodiscard]] Result<Registers> registers(unsigned vcpu) const override;
    Result<void> set_registers(unsigned vcpu, const Registers& registers) override;
    std::size_t read(unsigned vcpu, std::uint64_t address, std::span<std::byte> to) const override;
    bool write(unsigned vcpu, std::uint64_t address, std::span<const std::byte> from) override;
    Result<void> insert(unsigned vcpu, const Breakpoint& breakpoint) override;
    void remove(const Breakpoint& breakpoint) override;
    void remove_all() override;
    Result<void> resume(const Resume& how) override;
    void interrupt() override;
    [[nodiscard]] std::optional<std::uint64_t> kernel_offset() const override;
    std::string monitor(std::string_view command) override;
    void kill() override { owner_.kill(); }

private:
    struct Software {
        std::uint64_t address;
        std::byte* place; ///< in guest memory
        std::byte original;
    };
    void put_back(const Software& one) const;
    [[nodiscard]] Result<Machine*> machine() const;
    [[nodiscard]] std::optional<Gpa> physical(Vcpu& vcpu, std::uint64_t address) const;
    /// The host's bytes from `address` to the end of its page, `most` at most; empty where there is no RAM.
    [[nodiscard]] std::span<std::byte> piece(Vcpu& vcpu, std::uint64_t address, std::size_t most) const;
    Result<void> insert_software(unsigned vcpu, const Breakpoint& breakpoint);
    [[nodiscard]] kvm_guest_debug control(unsigned vcpu) const;
    /// nullopt: an exception of the guest's own.
    [[nodiscard]] std::optional<Stop> stop_of(unsigned vcpu, const vm_exit::Debug& exit) const;
    void on_stops();
    void stop_at(const Stop& stop);

    EventLoop& loop_;
    Owner owner_;
    Machine* machine_{nullptr};
    bool hold_next_;
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};

    // Changed on the loop while the guest stands still; read by vCPU threads while it runs.
    std::vector<Software> software_{};
    std::array<std::optional<Breakpoint>, 4> hardware_{}; ///< by number of the debug register
    std::optional<unsigned> step_{};

    std::mutex mutex_{};
    std::vector<Stop> stops_{}; ///< guarded by mutex_; not reported yet
};

} // namespace inox::gdb
