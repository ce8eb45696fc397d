// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/confine.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <span>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/filters.inc" // generated: programs, call_names

namespace inox::confine {
namespace {

static_assert(std::size(programs) == thread_kind_names.size() * (all_features + 1));

bool is(const sock_filter& one, int code, std::uint32_t value) { return one.code == code && one.k == value; }

} // namespace

int load_filter(ThreadKind kind, Features features, Refusal refusal) noexcept {
    const auto program = programs[static_cast<std::size_t>(kind) * (all_features + 1) + features];
    if (program.empty() || refusal == Refusal::none)
        return 0;
    std::array<sock_filter, BPF_MAXINSNS> own;
    std::ranges::copy(program, own.begin());
    const auto mine = std::span{own}.first(program.size());
    const auto process = static_cast<std::uint32_t>(::getpid());
    for (auto& one : mine) {
        if (is(one, BPF_JMP | BPF_JEQ | BPF_K, own_process_mark))
            one.k = process;
        else if (refusal == Refusal::log && is(one, BPF_RET | BPF_K, SECCOMP_RET_TRAP))
            one.k = SECCOMP_RET_LOG;
    }
    const sock_fprog whole{static_cast<unsigned short>(program.size()), mine.data()};
    return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &whole) == 0 ? 0 : errno; // NOLINT(*-vararg)
}

const char* call_name(long number) noexcept {
    const char* name = number >= 0 && static_cast<std::size_t>(number) < std::size(call_names)
                           ? call_names[static_cast<std::size_t>(number)]
                           : nullptr;
    return name != nullptr ? name : "unknown";
}

} // namespace inox::confine
