// SPDX-License-Identifier: Apache-2.0
// A translation whose cost is not what the test is about.
#pragma once

#include "vmm/memory/dma_memory.hpp"

namespace fakes {

/// True when the whole range was appended to `out`.
inline bool translate(const vmm::DmaMemory& memory, vmm::Range<vmm::Iova> range, vmm::Access access,
                      std::vector<iovec>& out) {
    auto limit = vmm::TranslationLimit::pages_of(range.size());
    return memory.translate(range, access, out, limit) == vmm::Translated::whole;
}

} // namespace fakes
