// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/overlay.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "devices/virtio/block/file.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox::devices::virtio {
namespace {

/// Pages that one transfer looks at, so that the worker can be stopped between two of them.
constexpr std::uint64_t longest_run = 16 * MiB;

/// The first `length` bytes of a job's data, as far as they fit; returns how many vectors that are.
int first_part(const BlockJob& job, std::uint64_t length, std::array<iovec, 64>& parts) noexcept {
    std::size_t count = 0;
    for (const auto& piece : *job.data) {
        if (length == 0 || count == parts.size())
            break;
        parts[count] = {piece.iov_base, std::min<std::size_t>(piece.iov_len, length)};
        length -= parts[count++].iov_len;
    }
    return static_cast<int>(count);
}

Result<UniqueFd> unnamed_file() {
    auto file = outside::open_unnamed();
    if (!file)
        return inox::fail_errno(Errc::output_unwritable,
                                "cannot make a file for what is written to a temporary disk in '" +
                                    outside::unnamed_folder() + "'",
                                "set TMPDIR to a folder with room");
    return file;
}

} // namespace

Result<BlockOverlay> BlockOverlay::create(std::uint64_t size) {
    auto file = TRY(unnamed_file());
    const auto bytes = align_up(std::max<std::uint64_t>(size / page / 8 + 1, 1), page_size);
    auto bitmap =
        TRY(Mapping::create(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    return BlockOverlay{std::move(file), std::move(bitmap)};
}

bool BlockOverlay::has(std::uint64_t index) const noexcept {
    const auto byte = static_cast<unsigned>(bitmap_.bytes()[index / 8]);
    return (byte >> (index % 8) & 1U) != 0;
}

void BlockOverlay::note(std::uint64_t offset, std::uint64_t length) noexcept {
    for (auto index = offset / page; index * page < offset + length; ++index)
        bitmap_.bytes()[index / 8] |= std::byte{1} << (index % 8);
}

std::uint64_t BlockOverlay::run(std::uint64_t offset, std::uint64_t length) const noexcept {
    length = std::min(length, longest_run);
    const bool here = has(offset / page);
    auto end = align_down(offset, page) + page;
    while (end < offset + length && has(end / page) == here)
        end += page;
    return std::min(end - offset, length);
}

int BlockOverlay::take(int image, std::uint64_t index) noexcept {
    std::array<std::byte, page> bytes{};
    const auto at = static_cast<off_t>(index * page);
    std::size_t done = 0;
    while (done < bytes.size()) { // the image may end in this page
        const auto got = ::pread(image, bytes.data() + done, bytes.size() - done, at + static_cast<off_t>(done));
        if (got < 0 && errno != EINTR)
            return errno;
        if (got == 0)
            break;
        done += static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    }
    for (done = 0; done < bytes.size();) {
        const auto put = ::pwrite(file_.get(), bytes.data() + done, bytes.size() - done, at + static_cast<off_t>(done));
        if (put < 0 && errno != EINTR)
            return errno;
        done += static_cast<std::size_t>(std::max<ssize_t>(put, 0));
    }
    note(index * page, page);
    return 0;
}

int BlockOverlay::keep_rest(int image, std::uint64_t offset, std::uint64_t length) noexcept {
    for (const auto edge : {offset, offset + length})
        if (edge % page != 0 && !has(edge / page))
            if (const int error = take(image, edge / page); error != 0)
                return error;
    return 0;
}

int BlockOverlay::transfer(int image, BlockJob& job) noexcept {
    const bool reads = job.kind == BlockJobKind::read;
    if (!reads)
        if (const int error = keep_rest(image, job.offset, job.length); error != 0)
            return error;
    std::array<iovec, 64> parts{};
    while (job.length != 0) {
        const auto length = reads ? run(job.offset, job.length) : std::min(job.length, longest_run);
        const int count = first_part(job, length, parts);
        const auto at = static_cast<off_t>(job.offset);
        const bool here = !reads || has(job.offset / page);
        const ssize_t done = !reads ? ::pwritev(file_.get(), parts.data(), count, at)
                                    : ::preadv(here ? file_.get() : image, parts.data(), count, at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        if (done == 0)
            return BlockJob::ended_early;
        if (!reads)
            note(job.offset, static_cast<std::uint64_t>(done));
        advance(job, static_cast<std::uint64_t>(done));
    }
    return 0;
}

int BlockOverlay::clear(int image, std::uint64_t offset, std::uint64_t length) noexcept {
    if (const int error = keep_rest(image, offset, length); error != 0)
        return error;
    if (const int error = zero_file(file_.get(), offset, length, true); error != 0)
        return error;
    note(offset, length);
    return 0;
}

} // namespace inox::devices::virtio
