// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/thread_kind.hpp"

#include <atomic>
#include <cstring>
#include <pthread.h>

#include "vmm/base/outside/outside.hpp"

namespace inox {
namespace {

std::atomic<ConfineThread> confine_with{nullptr};
thread_local ThreadIdentity identity;

} // namespace

void enter_thread(ThreadKind kind, const char* name) noexcept {
    const bool again = identity.entered && identity.kind == kind;
    std::strncpy(identity.name.data(), name, identity.name.size() - 1);
    if (kind != ThreadKind::loop) // the process's own name stays
        ::pthread_setname_np(::pthread_self(), identity.name.data());
    identity.kind = kind;
    identity.entered = true;
    // These are there before the loop is kept from opening files, and open none. The rest is made by threads that are.
    if (kind == ThreadKind::api || kind == ThreadKind::watchdog || kind == ThreadKind::engine ||
        kind == ThreadKind::share)
        outside::begin_thread();
    if (const auto confine = confine_with.load(std::memory_order_acquire); confine && !again)
        confine(kind);
}

void confine_threads(ConfineThread confine) noexcept { confine_with.store(confine, std::memory_order_release); }

const ThreadIdentity& this_thread() noexcept { return identity; }

} // namespace inox
