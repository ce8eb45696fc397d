// SPDX-License-Identifier: Apache-2.0
// What a guest's CPUID instruction says.
#pragma once

#include <cstdint>
#include <linux/kvm.h>
#include <vector>

namespace vmm::boot {

struct CpuidRequest {
    unsigned cpu{0};          ///< index of the vCPU; also its APIC id
    unsigned cpus{1};         ///< in the machine
    bool smt{false};          ///< pairs of vCPUs are threads of one core
    bool tsc_deadline{true};  ///< KVM_CAP_TSC_DEADLINE_TIMER
    std::uint32_t tsc_khz{0}; ///< KVM_GET_TSC_KHZ; 0 when unknown
};

/// `supported` is KVM_GET_SUPPORTED_CPUID's answer; returns the table for KVM_SET_CPUID2 of one vCPU.
std::vector<kvm_cpuid_entry2> guest_cpuid(std::vector<kvm_cpuid_entry2> supported, const CpuidRequest& request);

} // namespace vmm::boot
