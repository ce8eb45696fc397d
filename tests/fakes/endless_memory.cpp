// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/endless_memory.hpp"

#include <algorithm>
#include <thread>

namespace inox::fakes {

EndlessMemory::Hold EndlessMemory::hold() const {
    ++holds;
    std::this_thread::sleep_for(delay_);
    return {};
}

Translated EndlessMemory::do_translate(Range<Iova> range, Access, std::vector<iovec>& out,
                                       TranslationLimit& limit) const noexcept {
    const std::size_t before = out.size();
    longest = std::max(longest.load(), range.size_minus_one() + 1);
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t mine = threads++ % page_count;
    for (std::uint64_t at = range.start().raw();;) {
        const auto size = std::min(range.last().raw() - at + 1, page_size - at % page_size);
        if (!limit.take_mapping() || !limit.take_piece()) {
            out.resize(before);
            return Translated::too_many;
        }
        // NOLINTNEXTLINE: a device writes through what it is given
        out.push_back({const_cast<std::byte*>(pages[mine].data()) + at % page_size, size});
        if (range.last().raw() - at < size)
            return Translated::whole;
        at += size;
    }
}

} // namespace inox::fakes
