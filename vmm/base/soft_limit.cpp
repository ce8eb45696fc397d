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

} // namespace inox
