// SPDX-License-Identifier: Apache-2.0
// What each thread of the process is for. Each begins by saying so, and is confined to what that needs.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace inox {

/// The kinds of thread; vmm/confine has the list of system calls of each but `start`.
enum class ThreadKind : std::uint8_t {
    loop,     ///< the device loop, on the process's first thread
    vcpu,     ///< runs the guest
    api,      ///< talks to clients of the control API
    watchdog, ///< takes signals, and ends a process that does not
    engine,   ///< of the accelerator
    disk,     ///< I/O that takes long
    iommu,    ///< what is left of the guest's requests to its IOMMU
    share,    ///< talks to the daemon of a shared folder
    assigned, ///< opens, pins, unpins and closes assigned devices
    dump,     ///< writes the guest's memory to a file
    snapshot, ///< the same, and its state, and gives the files their names
    pages,    ///< watches the process that brings the guest's memory
    cloner,   ///< of a template: makes clones, each of which confines itself anew
    start,    ///< makes a machine, or opens what is added to one; has no list but that of the thread that made it
};
inline constexpr std::array<std::string_view, 14> thread_kind_names{"loop",     "vcpu",  "api",    "watchdog", "engine",
                                                                    "disk",     "iommu", "share",  "assigned", "dump",
                                                                    "snapshot", "pages", "cloner", "start"};
constexpr std::string_view name_of(ThreadKind kind) { return thread_kind_names[static_cast<std::size_t>(kind)]; }

/// The first thing a thread does. `name`: what tools show, at most 15 bytes. The loop's thread says it before the
/// guest's first instruction, and again when the guest starts again. Returns once the thread is confined.
void enter_thread(ThreadKind kind, const char* name) noexcept;

/// Who is asked to confine each thread from now on, on that thread, once for each; null: nobody. Before other threads
/// exist.
using ConfineThread = void (*)(ThreadKind kind) noexcept;
void confine_threads(ConfineThread confine) noexcept;

/// Of the calling thread; for signal handlers, too.
struct ThreadIdentity {
    ThreadKind kind{ThreadKind::start};
    bool entered{false};
    std::array<char, 16> name{};
};
[[nodiscard]] const ThreadIdentity& this_thread() noexcept;

} // namespace inox
