// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/dma_memory.hpp"

#include "vmm/memory/guest_memory.hpp"

namespace vmm {
namespace {

// Buffers of copies are tens of bytes: a handful of pieces at most, and no allocation after the first on each thread.
std::vector<iovec>& scratch() {
    thread_local std::vector<iovec> pieces;
    pieces.clear();
    return pieces;
}

} // namespace

bool DmaMemory::read(Iova from, std::span<std::byte> to) const noexcept {
    if (to.empty())
        return true;
    const auto range = Range<Iova>::sized(from, to.size());
    auto& pieces = scratch();
    if (!range || !translate(*range, Access::read, pieces))
        return false;
    for (const iovec& piece : pieces) {
        std::memcpy(to.data(), piece.iov_base, piece.iov_len);
        to = to.subspan(piece.iov_len);
    }
    return true;
}

bool DmaMemory::write(Iova to, std::span<const std::byte> from) const noexcept {
    if (from.empty())
        return true;
    const auto range = Range<Iova>::sized(to, from.size());
    auto& pieces = scratch();
    if (!range || !translate(*range, Access::write, pieces))
        return false;
    for (const iovec& piece : pieces) {
        std::memcpy(piece.iov_base, from.data(), piece.iov_len);
        from = from.subspan(piece.iov_len);
    }
    return true;
}

bool DirectMemory::translate(Range<Iova> range, Access, std::vector<iovec>& out) const noexcept {
    const auto bytes = memory_.host(Gpa{range.start().raw()}, range.size());
    if (!bytes)
        return false;
    out.push_back({bytes->data(), bytes->size()});
    return true;
}

} // namespace vmm
