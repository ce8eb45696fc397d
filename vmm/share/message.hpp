// SPDX-License-Identifier: Apache-2.0
// The shape of a FUSE request (Linux' include/uapi/linux/fuse.h). libfuse trusts its kernel: it reads names and lengths
// without looking where the message ends. A guest wrote these messages, so each is looked at before libfuse gets it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <linux/fuse.h>

namespace inox::share {

/// Bytes of a file's data in one request or reply.
inline constexpr std::size_t max_data = 1024 * 1024;
/// Bytes of one message, its header and arguments included, in either direction.
inline constexpr std::size_t max_message = max_data + 4096;

enum class Shape : std::uint8_t {
    good,
    malformed, ///< too short, too long, or a name without an end
    unknown,   ///< an operation that the server has not
};

/// `message`: a whole request, with its header; its length is what the header says.
[[nodiscard]] Shape shape_of(std::span<const std::byte> message) noexcept;

/// The request has no reply.
[[nodiscard]] constexpr bool is_unanswered(std::uint32_t opcode) {
    return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
}

} // namespace inox::share
