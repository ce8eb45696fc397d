// SPDX-License-Identifier: Apache-2.0
// Takes from this process what it has no use for, before the guest's first instruction.
#pragma once

#include <cstdint>
#include <string_view>

#include "vmm/base/error.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/confine/feature.hpp"

namespace inox::confine {

/// What becomes of a call that is not in a thread's list.
enum class Refusal : std::uint8_t {
    end,  ///< the process ends: violation.hpp
    log,  ///< the kernel logs it and does it
    none, ///< there are no lists
};

/// The error of a process that such a call ends, as docs/exit-codes.md has it, and its exit code. It is never an Error:
/// a signal handler writes it.
constexpr std::string_view refusal_name = "forbidden_call";
constexpr int refusal_code = 149;

struct Plan {
    Refusal refusal{Refusal::end};
    Features features{};
    /// Whether other processes of the same user may read its memory and descriptors in /proc.
    bool visible{false};
    /// Code of the process that a call ends, and what else its handler does and writes; safe in a signal handler.
    int exit_code{};
    void (*before_end)(){};
    /// Lines for the log besides the message; the first %d of the second is the call's number. Null: none.
    const char* log_line{};
    const char* log_line_with_number{};
};

/// From now on each thread that begins (enter_thread) is confined: to its list of system calls, and to the capabilities
/// that it needs. So is the caller's, when it says what it is. Once, on the process's first thread. host_error where
/// the kernel has no filters.
Result<void> confine(const Plan& plan);

/// In a process that was forked from one that is confined: its threads get the lists for these features.
void use_features(Features features) noexcept;

/// Loads the list of this kind for the calling thread; for tests. Returns 0 or errno.
int load_filter(ThreadKind kind, Features features, Refusal refusal) noexcept;

/// The name of a system call of this architecture; "unknown" for numbers without one. Safe in a signal handler.
[[nodiscard]] const char* call_name(long number) noexcept;

} // namespace inox::confine
