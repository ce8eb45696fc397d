// SPDX-License-Identifier: Apache-2.0
// What root can do and inox need not, and what other processes of the same user can see of it.
#pragma once

#include "vmm/base/error.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/confine/feature.hpp"

namespace inox::confine {

/// The capabilities that a thread of this kind keeps where it has them, as a set of bits.
[[nodiscard]] std::uint64_t capabilities_of(ThreadKind kind, Features features) noexcept;

/// Takes all others from the calling thread, also from what it executes. Returns 0 or errno.
int drop_capabilities(std::uint64_t kept) noexcept;

/// No program that this process executes gets more rights than it has, by its file's owner or capabilities.
int no_new_privileges() noexcept;

/// Processes of the same user see neither memory nor descriptors of this one in /proc and attach no debugger, and it
/// leaves no core. Returns 0 or errno.
int hide_from_peers() noexcept;

} // namespace inox::confine
