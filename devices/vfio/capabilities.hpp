// SPDX-License-Identifier: Apache-2.0
// Capability chains that VFIO appends to its answers. The kernel is trusted not to attack, but a chain is walked with
// bounds all the same: other kernels than Linux's own speak this interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace inox::devices::vfio {

struct InfoCapability {
    std::uint16_t id{};
    std::span<const std::byte> body{}; ///< after the 8-byte header, to the end of the answer
};

/// `answer` is the whole of what the kernel filled in, `first` the offset of the first capability (0: none). Ends at
/// the first header that lies outside, goes back, or is met again.
std::vector<InfoCapability> info_capabilities(std::span<const std::byte> answer, std::uint32_t first);

/// Calls `ask` with a buffer that starts with argsz, and once more with a larger one when the kernel wants that. Empty,
/// with the negative errno in `error`, on failure. `base_size` is that of the structure without capabilities.
std::vector<std::byte> ask_with_capabilities(std::size_t base_size, std::span<const std::byte> start,
                                             const std::function<int(std::span<std::byte>)>& ask, int& error);

} // namespace inox::devices::vfio
