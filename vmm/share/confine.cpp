// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/confine.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/os.hpp"

namespace inox::share {
namespace {

constexpr std::uint64_t reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t truncating = 1ULL << 14; ///< LANDLOCK_ACCESS_FS_TRUNCATE, which Debian 12's header lacks
/// All of version 1: EXECUTE, the first, to MAKE_SYM.
constexpr std::uint64_t all_of_1 = 2 * LANDLOCK_ACCESS_FS_MAKE_SYM - 1;

long landlock_version() {
    return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION); // NOLINT(*-vararg)
}

/// Nothing where there is no Landlock. Its first version forbids every rename between folders.
Result<void> stay_in(int folder, bool read_only) {
    const long version = landlock_version();
    if (version < (read_only ? 1 : 2))
        return {};
    landlock_ruleset_attr rules{};
    rules.handled_access_fs =
        all_of_1 | (version >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0) | (version >= 3 ? truncating : 0);
    landlock_path_beneath_attr beneath{};
    beneath.allowed_access = read_only ? reading : rules.handled_access_fs & ~std::uint64_t{LANDLOCK_ACCESS_FS_EXECUTE};
    beneath.parent_fd = folder;
    // NOLINTBEGIN(*-vararg)
    const UniqueFd set{static_cast<int>(::syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0))};
    if (!set || ::syscall(SYS_landlock_add_rule, set.get(), LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0 ||
        ::syscall(SYS_landlock_restrict_self, set.get(), 0) != 0)
        return fail_errno(Errc::host_error, "cannot confine the server of a shared folder (Landlock)");
    // NOLINTEND(*-vararg)
    return {};
}

/// What files of several users need; no other use is made of being root.
Result<void> keep_capabilities() {
    if (::geteuid() != 0)
        return {};
    std::uint32_t kept = 0;
    for (const int one : {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_SETGID,
                          CAP_SETUID, CAP_MKNOD, CAP_SETFCAP})
        kept |= 1U << one;
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0) // NOLINT(*-vararg)
        return fail_errno(Errc::host_error, "cannot read the capabilities of a shared folder's server");
    sets[0].permitted &= kept;
    sets[1].permitted = 0;
    for (auto& set : sets) {
        set.effective = set.permitted;
        set.inheritable = 0;
    }
    if (::syscall(SYS_capset, &header, sets.data()) != 0) // NOLINT(*-vararg)
        return fail_errno(Errc::host_error, "cannot drop the capabilities of a shared folder's server");
    return {};
}

} // namespace

Result<void> confine(int folder, bool read_only) {
    ::umask(0); // the guest's kernel has applied the umask of the guest's process
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    // NOLINTNEXTLINE(*-vararg)
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return fail_errno(Errc::host_error, "cannot confine the server of a shared folder");
    TRY_VOID(stay_in(folder, read_only));
    return keep_capabilities();
}

} // namespace inox::share
