// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/run_failure.hpp"

#include <cerrno>

#include "vmm/base/hex.hpp"
#include "vmm/memory/memory_limits.hpp"

namespace inox {
Error run_failure(unsigned vcpu, const std::string& at, const vm_exit::Failed& failed, const GuestMemory& ram,
                  const std::string& root) {
    const std::string who = format("vCPU %u", vcpu);
    if (failed.sys_errno != EFAULT)
        return {Errc::guest_entry_failed,
                who + ": KVM_RUN failed at " + at,
                "see the host's kernel log",
                {},
                failed.sys_errno};
    const auto place = failed.address ? format(" at address %#llx", hex(*failed.address)) : std::string{};
    if (failed.address && !ram.host(*failed.address, 1))
        return {Errc::guest_entry_failed,
                who + ": the host has no page behind the device memory" + place + ", which the guest used at " + at,
                "was an assigned device lost? see the host's kernel log",
                {},
                failed.sys_errno};
    return {Errc::memory_unavailable,
            who + ": the host could not give the guest " +
                (ram.huge_pages() == HugePages::two_mib ? "a huge page of 2 MiB" : "a page") + " of its memory" +
                place + ", used at " + at,
            memory_limits_text(root, ram.huge_pages()) + "; the host's kernel log may say more",
            {},
            failed.sys_errno};
}

} // namespace inox
