// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/landlock.hpp"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <tuple>

#include "vmm/base/os.hpp"
#include "vmm/confine/privileges.hpp"

namespace inox::confine::landlock {
namespace {

// From later headers than Debian 12's, whose struct has the first member only.
struct Attributes {
    std::uint64_t files;
    std::uint64_t net;
    std::uint64_t scoped;
};
constexpr std::array<std::uint64_t, 8> file_rights{0,
                                                   (1U << 13) - 1, // 1: all up to MAKE_SYM
                                                   (1U << 14) - 1, // 2: REFER
                                                   (1U << 15) - 1, // 3: TRUNCATE
                                                   (1U << 15) - 1,
                                                   (1U << 16) - 1, // 5: IOCTL_DEV
                                                   (1U << 16) - 1,
                                                   (1U << 16) - 1};
constexpr std::uint64_t tcp = 0b11;           // 4: bind, connect
constexpr std::uint64_t outside_scope = 0b11; // 6: abstract sockets, signals
constexpr std::uint64_t reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t of_file = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | 1U << 14 | 1U << 15;

/// A folder's rights where the path is one, else those that a file has.
bool add_rule(int rules, int place, std::uint64_t folder, std::uint64_t file) {
    landlock_path_beneath_attr rule{};
    rule.parent_fd = place;
    for (const auto rights : {folder, file}) {
        rule.allowed_access = rights;
        // NOLINTNEXTLINE(*-vararg)
        if (::syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0)
            return true;
    }
    return false;
}

long create_ruleset(const Attributes* attributes, std::size_t size, std::uint32_t flags) {
    return ::syscall(SYS_landlock_create_ruleset, attributes, size, flags); // NOLINT(*-vararg)
}

} // namespace

int version() noexcept {
    const long got = create_ruleset(nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return got > 0 ? static_cast<int>(got) : 0;
}

Result<void> restrict_thread(std::span<const std::string> readable, int abi, std::span<const std::string> writable) {
    static constexpr const char* what = "cannot confine this thread with Landlock";
    static constexpr const char* hint = "is inox inside of 16 such confinements already?";
    errno = no_new_privileges();
    if (errno != 0)
        return fail_errno(Errc::host_error, "cannot renounce new privileges");
    if (abi <= 0)
        return {};
    const Attributes all{file_rights[static_cast<std::size_t>(std::min<int>(abi, file_rights.size() - 1))],
                         abi >= 4 ? tcp : 0, abi >= 6 ? outside_scope : 0};
    const std::size_t size = abi >= 6 ? sizeof all : abi >= 4 ? 2 * sizeof(std::uint64_t) : sizeof(std::uint64_t);
    const UniqueFd rules{static_cast<int>(create_ruleset(&all, size, 0))};
    if (!rules)
        return fail_errno(Errc::host_error, what, hint);
    const auto writing = all.files & ~std::uint64_t{LANDLOCK_ACCESS_FS_EXECUTE};
    for (const auto& [paths, folder, file] :
         {std::tuple{readable, reading, reading & of_file}, std::tuple{writable, writing, writing & of_file}})
        for (const auto& path : paths) {
            const UniqueFd place{::open(path.c_str(), O_PATH | O_CLOEXEC)}; // NOLINT(*-vararg)
            if (place && !add_rule(rules.get(), place.get(), folder, file))
                return fail_errno(Errc::host_error, std::string{"cannot allow the use of "} + path);
        }
    if (::syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0) // NOLINT(*-vararg)
        return fail_errno(Errc::host_error, what, hint);
    return {};
}

} // namespace inox::confine::landlock
