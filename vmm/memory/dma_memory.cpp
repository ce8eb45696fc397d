// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/dma_memory.hpp"

#include "vmm/memory/guest_memory.hpp"

namespace inox {
namespace {

// Copies are tens of bytes: they have a handful of pieces, and only the first one on each thread allocates.
std::vector<iovec>* translated(const DmaMemory& memory, Iova start, std::uint64_t size, Access access) {
    thread_local std::vector<iovec> pieces;
    pieces.clear();
    const auto range = Range<Iova>::sized(start, size);
    auto limit = TranslationLimit::pages_of(size);
    return range && memory.translate(*range, access, pieces, limit) == Translated::whole ? &pieces : nullptr;
}

} // namespace

bool DmaMemory::read(Iova from, std::span<std::byte> to) const noexcept {
    if (to.empty())
        return true;
    const auto* const pieces = translated(*this, from, to.size(), Access::read);
    if (!pieces)
        return false;
    for (const iovec& piece : *pieces) {
        std::memcpy(to.data(), piece.iov_base, piece.iov_len);
        to = to.subspan(piece.iov_len);
    }
    return true;
}

bool DmaMemory::write(Iova to, std::span<const std::byte> from) const noexcept {
    if (from.empty())
        return true;
    const auto* const pieces = translated(*this, to, from.size(), Access::write);
    if (!pieces)
        return false;
    for (const iovec& piece : *pieces) {
        std::memcpy(piece.iov_base, from.data(), piece.iov_len);
        from = from.subspan(piece.iov_len);
    }
    wrote(*pieces);
    return true;
}

DirectMemory::DirectMemory(const GuestMemory& memory) : DmaMemory{&memory.dirty()}, memory_{memory} {}

Translated DirectMemory::do_translate(Range<Iova> range, Access, std::vector<iovec>& out,
                                      TranslationLimit& limit) const noexcept {
    const auto bytes = memory_.host(Gpa{range.start().raw()}, range.size());
    if (!bytes)
        return Translated::fault;
    if (!limit.take_piece())
        return Translated::too_many;
    out.push_back({bytes->data(), bytes->size()});
    return Translated::whole;
}

} // namespace inox
