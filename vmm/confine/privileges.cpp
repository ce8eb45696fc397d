// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/privileges.hpp"

#include <array>
#include <cerrno>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace inox::confine {
namespace {

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

} // namespace

std::uint64_t capabilities_of(ThreadKind kind, Features features) noexcept {
    std::uint64_t kept = 0;
    // With it, neither VFIO nor iommufd counts pinned memory against a limit (RLIMIT_MEMLOCK).
    const bool pins = kind == ThreadKind::loop || kind == ThreadKind::vcpu || kind == ThreadKind::iommu ||
                      kind == ThreadKind::assigned;
    if (pins && (features & vfio) != 0)
        kept |= bit(CAP_IPC_LOCK);
    // Files that the run ends with, and files and taps that come later, may belong to others.
    if (kind == ThreadKind::loop || kind == ThreadKind::assigned)
        kept |= bit(CAP_DAC_OVERRIDE);
    if (kind == ThreadKind::cloner) // what a start needs: files of others, taps, and a guest's folder
        kept |= bit(CAP_DAC_OVERRIDE) | bit(CAP_NET_ADMIN) | bit(CAP_CHOWN);
    if (kind == ThreadKind::loop && (features & changing) != 0)
        kept |= bit(CAP_NET_ADMIN);
    return kept;
}

int drop_capabilities(std::uint64_t kept) noexcept {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0) // NOLINT(*-vararg)
        return errno;
    for (std::size_t half = 0; half < sets.size(); ++half) {
        auto& set = sets.at(half);
        set.permitted &= static_cast<std::uint32_t>(kept >> 32 * half);
        set.effective = set.permitted;
        set.inheritable = 0;
    }
    return ::syscall(SYS_capset, &header, sets.data()) == 0 ? 0 : errno; // NOLINT(*-vararg)
}

int no_new_privileges() noexcept {
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno; // NOLINT(*-vararg)
}

int hide_from_peers() noexcept {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_CORE, &none) != 0)
        return errno;
    return ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : errno; // NOLINT(*-vararg)
}

} // namespace inox::confine
