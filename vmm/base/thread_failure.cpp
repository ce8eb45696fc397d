// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/thread_failure.hpp"

#include <charconv>
#include <pthread.h>
#include <sys/resource.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/host_files.hpp"
#include "vmm/base/soft_limit.hpp"

namespace inox {
namespace {

/// proc(5): the first number of statm is the address space in pages.
std::uint64_t address_space() {
    std::uint64_t pages = 0;
    const auto text = host::read_text("/proc/self/statm");
    std::from_chars(text.data(), text.data() + text.size(), pages);
    return pages * page_size;
}

std::uint64_t stack_size() {
    pthread_attr_t usual;
    std::size_t size = 0;
    if (::pthread_getattr_default_np(&usual) != 0)
        return size;
    ::pthread_attr_getstacksize(&usual, &size);
    ::pthread_attr_destroy(&usual);
    return size;
}

std::string hint() {
    // The C library maps a guard page in front of the stack, and memory of its own.
    constexpr std::uint64_t beside = MiB;
    const auto used = address_space();
    const auto stack = stack_size();
    if (const auto space = soft_limit(RLIMIT_AS); space && used + stack + beside > *space)
        return format("raise the limit on address space: ulimit -v allows %llu KiB, %llu KiB are in use, and a thread "
                      "takes %llu KiB",
                      static_cast<unsigned long long>(*space / KiB), static_cast<unsigned long long>(used / KiB),
                      static_cast<unsigned long long>(stack / KiB));
    const auto processes = soft_limit(RLIMIT_NPROC);
    return "raise the limit on processes (ulimit -u: " + (processes ? std::to_string(*processes) : "no limit") +
           ") or the cgroup's pids.max";
}

} // namespace

std::unexpected<Error> fail_thread(const char* what, const std::system_error& error) {
    return std::unexpected<Error>{
        Error{Errc::host_error, std::string{"cannot start "} + what, hint(), {}, error.code().value()}};
}

} // namespace inox
