// SPDX-License-Identifier: Apache-2.0
// Why KVM_RUN itself failed, as far as the host tells.
#pragma once

#include <string>

#include "vmm/kvm/vcpu.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

/// `at`: where the guest was. memory_unavailable, with the limits that apply, when the host could not fill a page of
/// guest memory (EFAULT); else guest_entry_failed. `root` is put before /proc and /sys.
[[nodiscard]] Error run_failure(unsigned vcpu, const std::string& at, const vm_exit::Failed& failed,
                                const GuestMemory& ram, const std::string& root = {});

} // namespace inox
