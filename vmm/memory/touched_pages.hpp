// SPDX-License-Identifier: Apache-2.0
// Which pages of guest memory the guest, or a device, has touched: reading others would make them exist.
#pragma once

#include <functional>
#include <span>

#include "vmm/base/error.hpp"

namespace inox {

/// Calls `each` with every run of touched pages of `ram`, in order, until it returns false; a run has at most 16 MiB.
/// `ram` is whole pages. host_error when the kernel does not say which they are. Any thread.
Result<void> for_each_touched(std::span<const std::byte> ram,
                              const std::function<bool(std::span<const std::byte> run)>& each);

} // namespace inox
