// SPDX-License-Identifier: Apache-2.0
// What a guest's CPUID instruction says.
#pragma once

#include <cstdint>
#include <linux/kvm.h>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox::boot {

struct CpuidRequest {
    unsigned cpu{0};          ///< index of the vCPU; also its APIC id
    unsigned cpus{1};         ///< in the machine
    bool smt{false};          ///< pairs of vCPUs are threads of one core
    bool tsc_deadline{true};  ///< KVM_CAP_TSC_DEADLINE_TIMER
    bool enqcmd{false};       ///< ENQCMD and MOVDIR64B are carried out by the VMM, whatever the host's CPU
    std::uint32_t tsc_khz{0}; ///< KVM_GET_TSC_KHZ; 0 when unknown
};

/// `supported` is KVM_GET_SUPPORTED_CPUID's answer; returns the table for KVM_SET_CPUID2 of one vCPU.
std::vector<kvm_cpuid_entry2> guest_cpuid(std::vector<kvm_cpuid_entry2> supported, const CpuidRequest& request);

/// A change of one register of one leaf, as Firecracker's CPU templates have them.
struct CpuidModifier {
    enum class Register : std::uint8_t { eax, ebx, ecx, edx };
    std::uint32_t leaf{};
    std::uint32_t subleaf{};
    Register reg{};
    std::uint32_t mask{};  ///< bits to change
    std::uint32_t value{}; ///< what they become
    std::uint32_t flags{}; ///< as configured, for display: KVM's own are kept
    bool operator==(const CpuidModifier&) const = default;
};
/// config_value for a leaf that the guest does not have.
Result<void> modify_cpuid(std::vector<kvm_cpuid_entry2>& entries, const std::vector<CpuidModifier>& modifiers);

} // namespace inox::boot
