// SPDX-License-Identifier: Apache-2.0
// Private to the IOASID core.
#pragma once

#include "iommu/pasid/ioasid.hpp"

namespace inox::iommu {

/// The right to emit events. False inside a handler, where waiting for it would never end.
class IoasidCore::Emitting {
public:
    explicit Emitting(IoasidCore& core) {
        if (core.delivering_.load(std::memory_order_relaxed) != std::this_thread::get_id())
            lock_ = std::unique_lock{core.events_};
    }
    explicit operator bool() const { return lock_.owns_lock(); }

private:
    std::unique_lock<std::mutex> lock_{};
};

} // namespace inox::iommu
