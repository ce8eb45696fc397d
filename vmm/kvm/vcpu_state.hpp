// SPDX-License-Identifier: Apache-2.0
// What a vCPU is, as values: what KVM gives of one, and what is given to KVM for another that goes on in its place.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace inox {

class State;

/// Before it is read, the last exit is finished: an access that a vCPU has begun is complete only after the next
/// KVM_RUN, and its second half is in no structure. One KVM_RUN with immediate_exit finishes it and enters no guest.
struct VcpuState {
    kvm_mp_state mp{};
    kvm_regs regs{};
    kvm_sregs sregs{};
    bool has_sregs2{false};
    kvm_sregs2 sregs2{};            ///< the same with PAE's page-directory pointers, where KVM has it
    std::vector<std::byte> xsave{}; ///< of KVM_GET_XSAVE2, at least 4096 bytes; empty: KVM has none, and `fpu` counts
    kvm_fpu fpu{};
    kvm_xcrs xcrs{};
    kvm_debugregs debug{};
    kvm_lapic_state lapic{};
    std::vector<kvm_msr_entry> msrs{};
    kvm_vcpu_events events{};
    std::vector<kvm_cpuid_entry2> cpuid{};
    std::uint32_t tsc_khz{0};    ///< 0: unknown, so that the state is good on hosts of the same rate only
    std::uint64_t ia32_pasid{0}; ///< inox's own: KVM knows nothing of it

    void state(State& state);
};

/// What a guest with the saved CPUID would miss on a host that offers `offered`: a line for each, "AVX512F (leaf 7, EBX
/// bit 16)"; empty: nothing.
std::vector<std::string> missing_cpuid(const std::vector<kvm_cpuid_entry2>& saved,
                                       const std::vector<kvm_cpuid_entry2>& offered);

} // namespace inox
