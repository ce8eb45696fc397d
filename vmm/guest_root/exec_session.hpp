// SPDX-License-Identifier: Apache-2.0
// The host's side of `inox exec`: one command in a running guest, over its vsock. docs/root.md has the protocol. One
// thread; it blocks.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::guest_root {

struct Window {
    std::uint16_t rows;
    std::uint16_t columns;
};

struct ExecRequest {
    std::vector<std::string> arguments{};   ///< none: a shell
    std::vector<std::string> environment{}; ///< "NAME=VALUE"
    std::string directory{};                ///< in the guest's root; empty: "/"
    std::optional<Window> terminal{};       ///< the command gets a terminal of this size
};

/// Where the command's input comes from and its output goes; input may be at its end.
struct ExecStreams {
    int input;
    int output;
    int error;
};

/// The port of the guest that inox's init listens at.
inline constexpr unsigned exec_port = 1024;

/// A connection to init by the socket of the guest's vsock. not_found: nobody listens there, on the host or in the
/// guest; timed_out after `limit`.
Result<UniqueFd> connect_exec(const std::string& socket, std::chrono::milliseconds limit);

/// Runs the command to its end: its exit status, or 128 and the signal's number. SIGINT, SIGTERM, SIGHUP, SIGQUIT,
/// SIGUSR1, SIGUSR2 go to it, and a terminal's size; they are blocked on this thread for good. Memory is bounded,
/// whatever the guest sends or the reader of its output leaves. host_error: the connection ended first, or what came is
/// not the protocol.
Result<int> run_exec(UniqueFd guest, const ExecRequest& request, const ExecStreams& streams);

} // namespace inox::guest_root
