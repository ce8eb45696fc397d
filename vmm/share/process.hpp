// SPDX-License-Identifier: Apache-2.0
// The server as a process of its own: inox's own program, started again.
//
// A program of its own, and not a fork, because a fork would copy the page tables of the guest's memory and every
// secret of the parent; posix_spawn shares the memory until exec, so it takes the same time for any guest. The server
// ends when its socket closes. It does not ask for a signal at its parent's end (PR_SET_PDEATHSIG): that comes at the
// end of the thread that started it, and machines are made by a thread that ends when they are done.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/child_process.hpp"
#include "vmm/base/os.hpp"

namespace inox::share {

/// False: this build has no libfuse, so no server.
[[nodiscard]] bool available() noexcept;

/// The folder at `path`, as start() wants it: O_PATH. not_found, with the reason: not there, no folder, or this user
/// may not look into it. unsupported where !available().
Result<UniqueFd> open_folder(const std::string& path);

struct StartedServer {
    UniqueFd socket{}; ///< blocking
    ChildProcess process{};
};

/// A socket of the server's, and what to start with the other end of it, which is to be closed once that runs.
struct ServerPlan {
    UniqueFd socket{};
    UniqueFd given{};
    ServingProgram program{};
};
/// Errors are errno.
std::optional<ServerPlan> plan(int folder, bool read_only, const char* program);

inline constexpr const char* own_program = "/proc/self/exe";
/// About a millisecond; does not wait for the server. `program`: for tests.
Result<StartedServer> start(int folder, bool read_only, const char* program);

/// The same by the outside::Door, which there must be: it opens the folder. The errors of open_folder(), too.
Result<StartedServer> start_outside(const std::string& path, bool read_only);

/// The word after inox's name that makes it a server. Not for people.
inline constexpr std::string_view command = "share-server";
/// The process of start(): `arguments` are those after the word. Returns its exit status.
int serve(std::span<const char* const> arguments);

} // namespace inox::share
