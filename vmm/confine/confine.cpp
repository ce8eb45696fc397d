// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/confine.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/log_sink.hpp"
#include "vmm/confine/privileges.hpp"
#include "vmm/confine/violation.hpp"

namespace inox::confine {
namespace {

std::atomic<Features> features_in_use{};
std::atomic<Refusal> refusal_in_use{};

/// A thread cannot go on without being confined, and nobody waits for its answer.
void confine_this_thread(ThreadKind kind) noexcept {
    if (kind == ThreadKind::start)
        return;
    int error = drop_capabilities(capabilities_of(kind, features_in_use));
    if (error == 0)
        error = load_filter(kind, features_in_use, refusal_in_use);
    if (error == 0)
        return;
    std::array<char, 128> line{};
    const int length = std::snprintf(line.data(), line.size(),
                                     "inox: error: a thread cannot be confined: errno %d [host_error]\n", error);
    (void)!::write(STDERR_FILENO, line.data(), static_cast<std::size_t>(length));
    ::_exit(exit_code(Errc::host_error));
}

Result<void> failed(int error, const char* what) {
    if (error == 0)
        return {};
    errno = error;
    return fail_errno(Errc::host_error, what);
}

} // namespace

Result<void> confine(const Plan& plan) {
    const std::uint32_t action = plan.refusal == Refusal::log ? SECCOMP_RET_LOG : SECCOMP_RET_TRAP;
    // NOLINTNEXTLINE(*-vararg)
    if (plan.refusal != Refusal::none && ::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) != 0)
        return fail_errno(Errc::host_error, "the kernel cannot filter system calls",
                          "it needs CONFIG_SECCOMP_FILTER; --seccomp off does without");
    TRY_VOID(failed(no_new_privileges(), "cannot do without new privileges"));
    if (!plan.visible)
        TRY_VOID(failed(hide_from_peers(), "cannot be hidden from processes of the same user"));
    features_in_use = plan.features;
    refusal_in_use = plan.refusal;
    log::prepare(); // what a thread could not open later
    if (plan.refusal == Refusal::end)
        end_on_violation(plan);
    confine_threads(confine_this_thread);
    return {};
}

void use_features(Features features) noexcept { features_in_use = features; }

} // namespace inox::confine
