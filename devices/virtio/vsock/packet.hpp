// SPDX-License-Identifier: Apache-2.0
// What crosses the rings of a socket device (virtio 1.2, 5.10.6) and what a host program says first. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "vmm/base/bytes.hpp"

namespace inox::devices::virtio {

enum class VsockOp : std::uint16_t {
    invalid = 0,
    request = 1,
    response = 2,
    reset = 3,
    shutdown = 4,
    data = 5,
    credit_update = 6,
    credit_request = 7,
};

struct VsockHeader {
    Le64 source_cid{};
    Le64 destination_cid{};
    Le32 source_port{};
    Le32 destination_port{};
    Le32 length{};
    Le16 type{};
    Le16 operation{};
    Le32 flags{};
    Le32 buffer_size{}; ///< of the sender, for this stream
    Le32 forwarded{};   ///< bytes the sender has passed on so far, modulo 2^32
};
static_assert(sizeof(VsockHeader) == 44 && GuestPod<VsockHeader>);

inline constexpr std::uint64_t vsock_host_cid = 2;
inline constexpr std::uint16_t vsock_stream = 1; ///< the only type
inline constexpr std::uint32_t vsock_shutdown_receive = 1;
inline constexpr std::uint32_t vsock_shutdown_send = 2;
inline constexpr std::uint32_t vsock_max_packet = 64 * 1024;

/// One connection's ports. The CIDs are always the guest's and the host's.
struct VsockPorts {
    std::uint32_t guest{};
    std::uint32_t host{};
    auto operator<=>(const VsockPorts&) const = default;
};

enum class VsockVerdict : std::uint8_t {
    accept, ///< well-formed: a connection decides
    reset,  ///< answer with a reset
    drop,   ///< no answer: a reset, or not even from this guest
};
/// `payload`: bytes the driver gave after the header.
VsockVerdict judge(const VsockHeader& header, std::uint64_t guest_cid, std::uint64_t payload) noexcept;

/// The port of "CONNECT 52", without its newline; letter case does not matter.
std::optional<std::uint32_t> parse_connect(std::string_view line) noexcept;

} // namespace inox::devices::virtio
