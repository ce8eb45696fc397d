// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/lock_limit.hpp"

#include <cstdlib>
#include <sys/resource.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/host_files.hpp"
#include "vmm/base/soft_limit.hpp"

namespace inox::devices::vfio {
namespace {

/// The number after "Key:" in /proc/self/status; 0 when absent.
std::uint64_t status_number(const std::string& status, const char* key, int base) {
    const auto at = status.find(key);
    return at == status.npos ? 0 : std::strtoull(status.c_str() + at + std::string_view{key}.size(), nullptr, base);
}

} // namespace

std::uint64_t locked_now(const std::string& root) {
    const auto status = host::read_text(root + "/proc/self/status");
    return (status_number(status, "VmLck:", 10) + status_number(status, "VmPin:", 10)) * KiB;
}

LockLimit LockLimit::of_process(const std::string& root) {
    constexpr unsigned cap_ipc_lock = 14;
    const auto status = host::read_text(root + "/proc/self/status");
    if ((status_number(status, "CapEff:", 16) >> cap_ipc_lock & 1) != 0)
        return LockLimit{std::nullopt};
    LockLimit out{soft_limit(RLIMIT_MEMLOCK), locked_now(root)};
    out.of_process_ = true;
    return out;
}

Result<void> LockLimit::check(std::uint64_t pinned, std::uint64_t more, const std::string& what) const {
    const auto needed = locked_before_ + pinned + more;
    if (!bytes_ || needed <= *bytes_)
        return {};
    const auto limit = of_process_ ? soft_limit(RLIMIT_MEMLOCK) : bytes_;
    if (!limit || needed <= *limit)
        return {};
    return fail(Errc::no_resource,
                format("%s needs %llu KiB of locked memory, but the limit of this process is %llu KiB", what.c_str(),
                       static_cast<unsigned long long>(align_up(needed, KiB) / KiB),
                       static_cast<unsigned long long>(*limit / KiB)),
                raise_lock_limit_hint(needed));
}

std::string raise_lock_limit_hint(std::uint64_t bytes) {
    const auto kib = static_cast<unsigned long long>(align_up(bytes, KiB) / KiB);
    return format("raise it: ulimit -l %llu, or LimitMEMLOCK=%lluK in the service's unit file", kib, kib);
}

} // namespace inox::devices::vfio
