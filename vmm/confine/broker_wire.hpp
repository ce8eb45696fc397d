// SPDX-License-Identifier: Apache-2.0
// Messages between a confined process and its broker. A request is one packet: this head, then text; with it go the
// socket for the answer and, for some, one or two more descriptors. The answer is one packet with at most two.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "vmm/base/os.hpp"

namespace inox::confine::wire {

enum class Op : std::uint32_t {
    allow, ///< until `seal`: text is entries, each a letter for its Purpose ('a' is the first), a path and NUL
    seal,  ///< the list is complete
    open,  ///< text is the path; with a descriptor: open what that is again
    open_slowly,
    open_unnamed,
    open_tap, ///< text is the name
    bind,     ///< with the socket
    connect,  ///< with the socket
    can_bind, ///< `flags` is the type of socket, text the address
    remove,
    make_folder,
    rename,      ///< text is the old name, NUL, the new one; in a process of its own
    replace,     ///< with a descriptor of the contents
    start_passt, ///< text is the words, each ended by NUL; with its socket and its standard error
    start_share, ///< text is the folder, `flags` 1: read-only
    status,      ///< `mode` is the helper
    end,         ///< the same
    ping,
    narrow, ///< another broker, in a process of its own, whose list is empty and can have what this one's has: its
            ///< socket
};

struct Request {
    Op op{};
    std::int32_t flags{};
    std::uint32_t mode{};
};

struct Answer {
    std::int32_t error{};  ///< errno; 0: done
    std::int32_t number{}; ///< of a helper, or how it ended
};

inline constexpr std::size_t most_text = 16 * 1024;
inline constexpr std::size_t most_fds = 3;

/// A packet with descriptors. False with errno; `wait` is a flag of send(2).
bool send(int socket, std::span<const std::byte> head, std::string_view text, std::span<const int> fds, int wait);

struct Packet {
    std::array<std::byte, sizeof(Request) + most_text> bytes;
    std::size_t size{};
    std::array<UniqueFd, most_fds> fds{};
};
/// False at the end of the stream, and with errno. A packet that is cut, or has more descriptors, has size 0.
bool receive(int socket, Packet& packet);

/// Serves until the other end closes `socket`, then ends the process, which nobody else may use.
[[noreturn]] void serve(UniqueFd socket) noexcept;

} // namespace inox::confine::wire
