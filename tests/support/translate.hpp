// SPDX-License-Identifier: Apache-2.0
// A translation whose cost is not what the test is about.
#pragma once

#include "vmm/memory/dma_memory.hpp"

namespace inox::tests {

/// True when the whole range was appended to `out`.
inline bool translate(const DmaMemory& memory, Range<Iova> range, Access access, std::vector<iovec>& out) {
    auto limit = TranslationLimit::pages_of(range.size());
    return memory.translate(range, access, out, limit) == Translated::whole;
}

} // namespace inox::tests
