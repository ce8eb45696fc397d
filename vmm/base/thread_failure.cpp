// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/thread_failure.hpp"

#include <array>
#include <charconv>
#include <pthread.h>
#include <sys/resource.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/host_files.hpp"
#include "vmm/base/soft_limit.hpp"

namespace inox {
namespace {

/// What this process has mapped, in bytes. proc(5): statm counts pages; the first number is the address space, the
/// sixth private memory that can be written.
struct Mapped {
    std::uint64_t all{};
    std::uint64_t data{};
};
Mapped mapped() {
    const auto text = host::read_text("/proc/self/statm");
    std::array<std::uint64_t, 6> pages{};
    const char* at = text.data();
    const char* const end = text.data() + text.size();
    for (auto& number : pages) {
        at = std::from_chars(at, end, number).ptr;
        at += at != end ? 1 : 0;
    }
    return {pages[0] * page_size, pages[5] * page_size};
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

/// Empty: the limit leaves room for a thread.
std::string too_low(const char* name, const char* option, int limit, std::uint64_t used) {
    // The C library maps a guard page in front of the stack, and memory of its own.
    constexpr std::uint64_t beside = MiB;
    const auto stack = stack_size();
    const auto most = soft_limit(limit);
    if (!most || used + stack + beside <= *most)
        return {};
    return format("raise the limit on %s: ulimit %s allows %llu KiB, %llu KiB are in use, and a thread takes %llu KiB",
                  name, option, static_cast<unsigned long long>(*most / KiB),
                  static_cast<unsigned long long>(used / KiB), static_cast<unsigned long long>(stack / KiB));
}

std::string hint() {
    const auto used = mapped();
    if (auto text = too_low("address space", "-v", RLIMIT_AS, used.all); !text.empty())
        return text;
    if (auto text = too_low("a process's data", "-d", RLIMIT_DATA, used.data); !text.empty())
        return text;
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
