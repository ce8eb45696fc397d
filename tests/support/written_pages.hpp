// SPDX-License-Identifier: Apache-2.0
// Whether all that changes in guest memory is noted.
#pragma once

#include <cstring>
#include <vector>

#include "vmm/memory/guest_memory.hpp"

namespace inox::tests {

class WrittenPages {
public:
    /// What was written before does not count.
    explicit WrittenPages(const GuestMemory& memory) : memory_{memory} {
        memory.dirty().track(true);
        memory.dirty().clear();
        for (const auto& region : memory.regions())
            before_.insert(before_.end(), region.host.begin(), region.host.end());
    }
    /// Something has changed, and each page that did is noted.
    [[nodiscard]] bool noted() const {
        bool any = false;
        for (const auto& region : memory_.regions())
            for (std::size_t at = 0; at < region.host.size(); at += page_size)
                if (std::memcmp(region.host.data() + at, before_.data() + region.file_offset + at, page_size) != 0) {
                    any = true;
                    if (!memory_.dirty().test((region.file_offset + at) / page_size))
                        return false;
                }
        return any;
    }

private:
    const GuestMemory& memory_;
    std::vector<std::byte> before_{};
};

} // namespace inox::tests
