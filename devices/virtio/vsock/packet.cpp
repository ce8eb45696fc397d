// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/packet.hpp"

#include <charconv>
#include <cstddef>
#include <linux/virtio_vsock.h>
#include <strings.h>

namespace inox::devices::virtio {
namespace {

static_assert(sizeof(VsockHeader) == sizeof(virtio_vsock_hdr));
static_assert(offsetof(VsockHeader, length) == offsetof(virtio_vsock_hdr, len));
static_assert(offsetof(VsockHeader, operation) == offsetof(virtio_vsock_hdr, op));
static_assert(offsetof(VsockHeader, forwarded) == offsetof(virtio_vsock_hdr, fwd_cnt));
static_assert(static_cast<int>(VsockOp::credit_request) == VIRTIO_VSOCK_OP_CREDIT_REQUEST);
static_assert(vsock_stream == VIRTIO_VSOCK_TYPE_STREAM && vsock_shutdown_send == VIRTIO_VSOCK_SHUTDOWN_SEND);

constexpr std::string_view blanks = " \t\r";

std::string_view next_word(std::string_view& text) {
    text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
    const auto word = text.substr(0, text.find_first_of(blanks));
    text.remove_prefix(word.size());
    return word;
}

} // namespace

VsockVerdict judge(const VsockHeader& header, std::uint64_t guest_cid, std::uint64_t payload) noexcept {
    if (header.source_cid != guest_cid)
        return VsockVerdict::drop;
    const std::uint16_t operation = header.operation;
    const bool to_host = header.destination_cid == vsock_host_cid && header.type == vsock_stream;
    if (operation == static_cast<std::uint16_t>(VsockOp::reset)) // a reset never answers a reset
        return to_host ? VsockVerdict::accept : VsockVerdict::drop;
    const bool known = operation >= static_cast<std::uint16_t>(VsockOp::request) &&
                       operation <= static_cast<std::uint16_t>(VsockOp::credit_request);
    // 5.10.6.4.2: an unknown type is answered with a reset.
    if (!to_host || !known)
        return VsockVerdict::reset;
    const bool data = operation == static_cast<std::uint16_t>(VsockOp::data);
    if (header.length > vsock_max_packet || header.length > payload || (!data && header.length != 0))
        return VsockVerdict::reset;
    return VsockVerdict::accept;
}

std::optional<std::uint32_t> parse_connect(std::string_view line) noexcept {
    constexpr std::string_view verb = "connect";
    const auto word = next_word(line);
    if (word.size() != verb.size() || ::strncasecmp(word.data(), verb.data(), verb.size()) != 0)
        return std::nullopt;
    const auto digits = next_word(line);
    std::uint32_t port = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size() || !next_word(line).empty())
        return std::nullopt;
    return port;
}

} // namespace inox::devices::virtio
