// SPDX-License-Identifier: Apache-2.0
// How fast this host's KVM runs guest code, and whether it interprets it.
#pragma once

#include <optional>

namespace inox {

/// Million instructions a second: runs a small loop in a guest for some 10 ms; `kvm` is /dev/kvm. nullopt when the
/// guest cannot be made.
std::optional<double> measure_kvm_speed(int kvm);

/// Whether a KVM emulates guest code, and so gives us the instructions it does not know instead of faulting in the
/// guest. With VMX or SVM beneath it never does; without, the speed tells: some run code on the CPU all the same.
bool interprets(bool vmx_or_svm, std::optional<double> million_instructions_per_second);
/// The CPU that this process sees has one of the two.
bool cpu_has_vmx_or_svm();
/// interprets() of this host, found once. Without VMX and SVM that takes up to half a second: not for a vCPU's thread.
bool kvm_interprets();

} // namespace inox
