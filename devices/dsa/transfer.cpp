// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/transfer.hpp"

#include <cstring>

namespace inox::devices::dsa {
namespace {

/// Joins pages that are neighbours in host memory into one piece, because long copies are faster.
void merge(std::vector<iovec>& pieces) {
    std::size_t kept = 0;
    for (std::size_t i = 1; i < pieces.size(); ++i) {
        iovec& last = pieces[kept];
        if (static_cast<std::byte*>(last.iov_base) + last.iov_len == pieces[i].iov_base)
            last.iov_len += pieces[i].iov_len;
        else
            pieces[++kept] = pieces[i];
    }
    if (!pieces.empty())
        pieces.resize(kept + 1);
}

} // namespace

bool Transfer::whole(std::uint64_t address, std::size_t size, Access access, std::vector<iovec>& out) {
    out.clear();
    const auto range = Range<Iova>::sized(Iova{address}, size);
    auto limit = TranslationLimit::pages_of(size);
    if (!range || memory_.translate(*range, access, out, limit) != Translated::whole)
        return false;
    merge(out);
    return true;
}

std::size_t Transfer::reach(std::uint64_t address, std::size_t size, Access access, std::vector<iovec>& out) {
    if (whole(address, size, access, out))
        return size;
    // Some page inside is not accessible: only the pages before it count.
    out.clear();
    std::size_t done = 0;
    while (done < size) {
        const std::uint64_t at = address + done;
        const auto part = std::min<std::uint64_t>(size - done, page_size - at % page_size);
        const auto range = Range<Iova>::sized(Iova{at}, part);
        TranslationLimit limit{1, 1};
        if (!range || at < address || memory_.translate(*range, access, out, limit) != Translated::whole)
            break;
        done += part;
    }
    merge(out);
    return done;
}

Transfer::Reach Transfer::reach_all(std::span<const Operand> operands, std::uint64_t done, std::size_t want) {
    Reach result{want, 0};
    for (std::size_t i = 0; i < operands.size(); ++i) {
        const std::size_t bytes = reach(operands[i].address + done, result.bytes, operands[i].access, pieces_[i]);
        if (bytes < result.bytes)
            result = {bytes, i};
        if (bytes == 0)
            break;
    }
    return result;
}

std::optional<Stop> Transfer::copy_backward(std::uint64_t source, std::uint64_t destination, std::uint64_t size) {
    std::uint64_t left = size;
    std::size_t most = chunk_size;
    while (left != 0) {
        if (!pace_.go_on())
            return Stop{Stop::Why::cancelled, size - left, 0, false};
        const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, most));
        const std::uint64_t from = source + (left - part), to = destination + (left - part);
        const auto hold = memory_.hold();
        const bool readable = whole(from, part, Access::read, pieces_[0]);
        if (!readable || !whole(to, part, Access::write, pieces_[1])) {
            // Tries smaller parts, down to single bytes at a page's edge, to copy as much as possible.
            if (most > 1) {
                most = most > page_size ? page_size : most / 2;
                continue;
            }
            return Stop{Stop::Why::fault, size - left, readable ? to : from, !readable ? false : true};
        }
        std::size_t source_end = 0, destination_end = 0; // bytes done of the last pieces, from their ends
        auto& sources = pieces_[0];
        auto& destinations = pieces_[1];
        for (std::size_t rest = part; rest != 0;) {
            iovec& a = sources.back();
            iovec& b = destinations.back();
            const std::size_t bytes = std::min(a.iov_len - source_end, b.iov_len - destination_end);
            auto* const written = static_cast<std::byte*>(b.iov_base) + (b.iov_len - destination_end - bytes);
            std::memmove(written, static_cast<std::byte*>(a.iov_base) + (a.iov_len - source_end - bytes), bytes);
            memory_.wrote(written, bytes);
            rest -= bytes;
            source_end += bytes;
            destination_end += bytes;
            if (source_end == a.iov_len) {
                sources.pop_back();
                source_end = 0;
            }
            if (destination_end == b.iov_len) {
                destinations.pop_back();
                destination_end = 0;
            }
        }
        left -= part;
    }
    return std::nullopt;
}

} // namespace inox::devices::dsa
