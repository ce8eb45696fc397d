// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/soft_limit.hpp"

#include <sys/resource.h>

namespace inox {

std::optional<std::uint64_t> soft_limit(int resource) {
    rlimit limit{};
    if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return std::nullopt;
    return limit.rlim_cur;
}

Result<void> check_memory_file(const std::string& what, std::uint64_t bytes) {
    const auto limit = soft_limit(RLIMIT_FSIZE);
    if (!limit || *limit >= bytes)
        return {};
    const auto kib = [](std::uint64_t size) { return static_cast<unsigned long long>(size / 1024); };
    return fail(Errc::memory_unavailable,
                format("%s needs a file in memory of %llu KiB, and files may have %llu KiB (RLIMIT_FSIZE)",
                       what.c_str(), kib(bytes), kib(*limit)),
                format("raise it: ulimit -f %llu, or the fsize of a launcher", kib(bytes)));
}

} // namespace inox
