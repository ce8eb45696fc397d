// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/touched_pages.hpp"

#include <algorithm>
#include <sys/mman.h>
#include <vector>

#include "vmm/base/bytes.hpp"

namespace inox {

Result<void> for_each_touched(std::span<const std::byte> ram,
                              const std::function<bool(std::span<const std::byte> run)>& each) {
    constexpr std::size_t step = 16 * MiB;
    std::vector<unsigned char> in_memory(step / page_size);
    for (std::size_t start = 0; start < ram.size(); start += step) {
        const auto part = ram.subspan(start, std::min<std::size_t>(step, ram.size() - start));
        if (::mincore(const_cast<std::byte*>(part.data()), part.size(), in_memory.data()) != 0) // NOLINT: looks only
            return fail_errno(Errc::host_error, "mincore");
        const auto touched = [&](std::size_t page) { return (in_memory[page] & 1) != 0; };
        const auto pages = part.size() / page_size;
        for (std::size_t first = 0, last = 0; first < pages; first = last) {
            while (last < pages && touched(last) == touched(first))
                ++last;
            if (touched(first) && !each(part.subspan(first * page_size, (last - first) * page_size)))
                return {};
        }
    }
    return {};
}

} // namespace inox
