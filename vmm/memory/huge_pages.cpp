// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/huge_pages.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 // since Linux 6.1
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 // since Linux 5.14
#endif

namespace inox {
namespace {

/// Each call makes every CPU of the host empty its page lists, so one call serves many pages.
constexpr std::uint64_t pieces_at_once = 64 * MiB;

/// The kernel skips a piece in which no page exists yet. This makes a page and changes no contents. Reading is not
/// enough for private memory: it maps a page of zeros, and a huge zero page counts as gathered.
void touch(std::span<std::byte> pieces) {
    for (std::size_t at = 0; at < pieces.size(); at += huge_page_size)
        ::madvise(pieces.data() + at, page_size, MADV_POPULATE_WRITE);
}

/// 0, or the errno that says why a piece is not in a huge page.
int collapse(std::span<std::byte> pieces) {
    return ::madvise(pieces.data(), pieces.size(), MADV_COLLAPSE) == 0 ? 0 : errno;
}

/// Gathers each piece with a call of its own, after a call for all of them met one that cannot be moved.
std::uint64_t collapse_each(std::span<std::byte> pieces) {
    std::uint64_t done = 0;
    for (std::size_t at = 0; at < pieces.size(); at += huge_page_size)
        if (collapse(pieces.subspan(at, huge_page_size)) == 0)
            done += huge_page_size;
    return done;
}

} // namespace

std::uint64_t gather_huge_pages(std::span<std::byte> memory, const std::function<void(std::uint64_t)>& progress) {
    const auto first = reinterpret_cast<std::uintptr_t>(memory.data()); // NOLINT
    const std::size_t head = align_up(first, huge_page_size) - first;
    if (head >= memory.size())
        return 0;
    const auto pieces = memory.subspan(head, align_down(memory.size() - head, huge_page_size));
    std::uint64_t gathered = 0;
    for (std::size_t at = 0; at < pieces.size(); at += pieces_at_once) {
        const auto some = pieces.subspan(at, std::min<std::size_t>(pieces_at_once, pieces.size() - at));
        touch(some);
        const int error = collapse(some);
        if (error == 0)
            gathered += some.size();
        else if (error == EAGAIN)
            gathered += collapse_each(some);
        else
            break; // EINVAL: this kernel or this memory cannot; ENOMEM, EBUSY: the host, or our share of it, has no
                   // more
        if (progress)
            progress(at + some.size());
    }
    return gathered;
}

} // namespace inox
