// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/paged_memory.hpp"

namespace inox::fakes {

PagedMemory::Hold PagedMemory::hold() const {
    ++holds;
    return {};
}

Translated PagedMemory::do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                     TranslationLimit& limit) const noexcept {
    const std::size_t before = out.size();
    for (std::uint64_t at = range.start().raw();;) {
        const auto found = pages_.find(at / page);
        if (revoked || found == pages_.end() ||
            (static_cast<unsigned>(access) & ~static_cast<unsigned>(found->second.access)) != 0) {
            out.resize(before);
            return Translated::fault;
        }
        if (!limit.take_mapping() || !limit.take_piece()) {
            out.resize(before);
            return Translated::too_many;
        }
        const auto size = std::min(range.last().raw() - at + 1, page - at % page);
        // NOLINTNEXTLINE: a device writes through what it is given
        out.push_back({const_cast<std::byte*>(host_.data()) + found->second.host * page + at % page, size});
        if (range.last().raw() - at < size)
            return Translated::whole;
        at += size;
    }
}

void PagedMemory::map(std::uint64_t address, std::uint64_t size, Access access) {
    for (std::uint64_t at = address / page; at <= (address + size - 1) / page; ++at)
        pages_[at] = {host_.size() / page - ++used_ * 2 % (host_.size() / page) - 1, access};
}

std::byte& PagedMemory::at(std::uint64_t address) {
    return host_[pages_.at(address / page).host * page + address % page];
}

std::vector<std::byte> PagedMemory::bytes(std::uint64_t address, std::size_t size) {
    std::vector<std::byte> out;
    for (std::size_t i = 0; i < size; ++i)
        out.push_back(at(address + i));
    return out;
}

void PagedMemory::set(std::uint64_t address, std::span<const std::byte> bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i)
        at(address + i) = bytes[i];
}

void PagedMemory::pattern(std::uint64_t address, std::size_t size, unsigned seed) {
    for (std::size_t i = 0; i < size; ++i)
        at(address + i) = static_cast<std::byte>((i * 131 + (i >> 8) * 17 + seed * 29) & 0xff);
}

} // namespace inox::fakes
