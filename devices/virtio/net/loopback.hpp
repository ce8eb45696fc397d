// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace inox::devices::virtio {

/// Whether a frame is from or to an address that the host takes for itself: its loopback addresses, 0.0.0.0/8, and
/// those of IPv6 whose first 80 bits are zero, in which an IPv4 address may hide. passt of 2023 connects to them.
/// `head`: the first 54 bytes of the frame, fewer of a short one. Pure.
bool names_loopback(std::span<const std::byte> head) noexcept;

} // namespace inox::devices::virtio
