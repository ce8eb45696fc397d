// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>

#include "devices/vfio/dma/lock_limit.hpp"
#include "iommu/pasid/registered_memory.hpp"

namespace inox::devices::vfio {

/// What the address spaces of a machine draw from; outlives them.
struct DmaResources {
    iommu::RegisteredMemory memory{}; ///< every byte that may be mapped
    LockLimit lock_limit{std::nullopt};
    /// Called with memory before it is mapped, and so pinned as it is then. May be empty.
    std::function<void(std::span<std::byte>)> before_pinning{};
};

} // namespace inox::devices::vfio
