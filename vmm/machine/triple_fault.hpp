// SPDX-License-Identifier: Apache-2.0
// What is known of a triple fault.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/kvm/vcpu.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

struct FaultPlace {
    std::uint64_t rip{};
    std::vector<std::uint8_t> bytes{}; ///< at RIP; empty when it is not in guest memory
};
/// Of a vCPU that does not run, on its thread; nullopt when KVM does not give its registers.
[[nodiscard]] std::optional<FaultPlace> fault_place(const Vcpu& vcpu, const GuestMemory& ram);
/// `svm`: the host's CPU has SVM, where KVM resets a vCPU that triple-faulted before it exits (the SVM part of
/// Linux's KVM, shutdown_interception): its registers no longer say where it was.
[[nodiscard]] Error triple_fault(unsigned vcpu, const std::optional<FaultPlace>& place, bool svm);
[[nodiscard]] bool host_has_svm();

} // namespace inox
