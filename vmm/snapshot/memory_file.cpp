// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/memory_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/memory/layout.hpp"
#include "vmm/snapshot/checksum.hpp"

namespace inox::snapshot {
namespace {

using Page = std::array<std::byte, page_size>;

} // namespace

bool is_zero(std::span<const std::byte> bytes) {
    // The first word differs from 0, or each byte equals the one before it: one call of the C library's fastest loop.
    std::uint64_t first = 0;
    std::memcpy(&first, bytes.data(), sizeof first);
    return first == 0 && std::memcmp(bytes.data(), bytes.data() + sizeof first, bytes.size() - sizeof first) == 0;
}

namespace {

/// The sums of a file's pages, which come in order.
class Sums {
public:
    explicit Sums(std::uint64_t size) : contents_{.size = size} {}

    /// Of a Diff.
    void note_changed(std::uint64_t offset) {
        auto& changed = contents_.changed;
        if (changed.empty() || changed.back().number != offset / piece_size)
            changed.push_back({.number = offset / piece_size});
        const auto page = offset % piece_size / page_size;
        changed.back().pages[page / 8] |= std::byte{1} << page % 8;
    }
    void add(std::uint64_t offset, std::span<const std::byte> page) {
        const auto piece = offset / piece_size;
        while (contents_.sums.size() < piece)
            end_piece();
        const auto number = offset / page_size;
        sum_.add(std::as_bytes(std::span{&number, 1}));
        sum_.add(page);
        contents_.stored += page.size();
    }
    MemoryContents take() {
        while (contents_.sums.size() < (contents_.size + piece_size - 1) / piece_size)
            end_piece();
        return std::move(contents_);
    }

private:
    void end_piece() {
        contents_.sums.push_back(sum_.value());
        sum_ = {};
    }
    MemoryContents contents_;
    Checksum sum_{};
};

/// Collects pages that follow one another, for large writes. The bytes are those of guest memory, and stay.
class Writer {
public:
    explicit Writer(int file) : file_{file} {}
    Result<void> add(std::uint64_t offset, std::span<const std::byte> page) {
        if (!run_.empty() &&
            (offset != at_ + run_.size() || page.data() != run_.data() + run_.size() || run_.size() >= most))
            TRY_VOID(flush());
        if (run_.empty())
            at_ = offset;
        run_ = run_.empty() ? page : std::span{run_.data(), run_.size() + page.size()};
        return {};
    }
    Result<void> flush() {
        while (!run_.empty()) {
            const auto count = ::pwrite(file_, run_.data(), run_.size(), static_cast<off_t>(at_));
            if (count < 0 && errno == EINTR)
                continue;
            if (count <= 0)
                return fail_errno(Errc::output_unwritable, "cannot write the snapshot's memory", "is the disk full?");
            run_ = run_.subspan(static_cast<std::size_t>(count));
            at_ += static_cast<std::uint64_t>(count);
        }
        return {};
    }

private:
    static constexpr std::size_t most = 4 * MiB;
    int file_;
    std::uint64_t at_{0};
    std::span<const std::byte> run_{};
};

/// Marks the pages of [from, from + marks.size() pages) of a file that have data in it.
void mark_data(int file, std::uint64_t from, std::vector<bool>& marks) {
    const auto end = from + marks.size() * page_size;
    for (auto at = from; at < end;) {
        const auto data = ::lseek(file, static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return;
        const auto hole = data < 0 ? -1 : ::lseek(file, data, SEEK_HOLE);
        if (hole < 0) { // a file system that does not tell
            std::fill(marks.begin(), marks.end(), true);
            return;
        }
        const auto last = std::min(static_cast<std::uint64_t>(hole), end);
        for (auto page = std::max(static_cast<std::uint64_t>(data), from) & ~(page_size - 1); page < last;
             page += page_size)
            marks[(page - from) / page_size] = true;
        at = static_cast<std::uint64_t>(hole);
    }
}

/// The same of pages that this process has in memory or has swapped out; of a mapped file: only those that differ from
/// it, if that is asked for.
enum class FilePages : bool { counted, left_out };
void mark_own(int pages, std::span<const std::byte> bytes, FilePages file_pages, std::vector<bool>& marks) {
    constexpr std::uint64_t present_or_swapped = std::uint64_t{3} << 62;
    constexpr std::uint64_t of_file = std::uint64_t{1} << 61;
    std::vector<std::uint64_t> entries(marks.size());
    const auto first = reinterpret_cast<std::uintptr_t>(bytes.data()) / page_size; // NOLINT: the kernel's index
    const auto want = entries.size() * sizeof(std::uint64_t);
    const auto got = ::pread(pages, entries.data(), want, static_cast<off_t>(first * sizeof(std::uint64_t)));
    const auto known = got == static_cast<ssize_t>(want);
    for (std::size_t i = 0; i < marks.size(); ++i)
        if (!known || ((entries[i] & present_or_swapped) != 0 &&
                       (file_pages == FilePages::counted || (entries[i] & of_file) == 0)))
            marks[i] = true;
}

Result<void> read_whole(int file, std::span<std::byte> to, std::uint64_t at) {
    while (!to.empty()) {
        const auto got = ::pread(file, to.data(), to.size(), static_cast<off_t>(at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail_errno(Errc::snapshot_missing, "cannot read the snapshot's memory");
        to = to.subspan(static_cast<std::size_t>(got));
        at += static_cast<std::uint64_t>(got);
    }
    return {};
}

Result<void> write_whole(int file, std::span<const std::byte> from, std::uint64_t at) {
    Writer writer{file};
    TRY_VOID(writer.add(at, from));
    return writer.flush();
}

} // namespace

void mark_pages(const GuestMemory& memory, const RamRegion& region, std::size_t start, int pages, Pages which,
                std::vector<bool>& marks) {
    const auto part = region.host.subspan(start, marks.size() * page_size);
    const auto offset = region.file_offset + start;
    if (which != Pages::all)
        for (std::size_t i = 0; i < marks.size(); ++i)
            marks[i] = memory.dirty().test(offset / page_size + i);
    if (which == Pages::written)
        return;
    if (memory.served() && which == Pages::all)
        return marks.assign(marks.size(), true); // all are read, and so brought
    if (memory.shared())
        return mark_data(memory.fd(), offset, marks);
    if (which == Pages::all && memory.image_fd() >= 0)
        mark_data(memory.image_fd(), offset, marks);
    const bool only_own = which == Pages::touched && memory.image_fd() >= 0;
    mark_own(pages, part, only_own ? FilePages::left_out : FilePages::counted, marks);
}

MemoryId new_memory_id() {
    MemoryId id{};
    if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()))
        id.fill(std::byte{1}); // does not happen: the size is small, and no signal ends it
    return id;
}

std::uint64_t id_offset() { return layout::snapshot_id.raw(); } // the first region begins at address 0

int page_map() {
    static const UniqueFd file{::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
    return file.get();
}

Result<void> write_id(int file, const MemoryId& id) {
    TRY_VOID(write_whole(file, id, id_offset()));
    if (::fdatasync(file) != 0)
        return fail_errno(Errc::output_unwritable, "cannot write the snapshot's memory");
    return {};
}

Result<MemoryContents> write_memory(int file, const GuestMemory& memory, int pages, const MemoryId& id, Pages which,
                                    const std::atomic<bool>& stop, std::atomic<std::uint64_t>& done) {
    if (::ftruncate(file, static_cast<off_t>(memory.size())) != 0)
        return fail_errno(Errc::output_unwritable, "cannot make the snapshot's memory as large as the guest's",
                          "its file has to be a regular one");
    Sums sums{memory.size()};
    Writer writer{file};
    constexpr std::size_t step = 4 * MiB;
    Page with_id{};
    const auto id_page = id_offset() & ~(page_size - 1);
    const bool diff = which != Pages::all;
    for (const auto& region : memory.regions()) {
        for (std::size_t start = 0; start < region.host.size(); start += step) {
            if (stop.load(std::memory_order_relaxed))
                return fail(Errc::wrong_state, "the snapshot was given up");
            const auto part = region.host.subspan(start, std::min(step, region.host.size() - start));
            std::vector<bool> marks(part.size() / page_size);
            mark_pages(memory, region, start, pages, which, marks);
            for (std::size_t i = 0; i < marks.size(); ++i) {
                const auto at = region.file_offset + start + i * page_size;
                const bool own = at == id_page;
                std::span<const std::byte> page = part.subspan(i * page_size, page_size);
                if (!own && (!marks[i] || (!diff && is_zero(page))))
                    continue;
                if (diff)
                    sums.note_changed(at);
                if (own) {
                    std::ranges::copy(page, with_id.begin());
                    std::ranges::copy(id, with_id.begin() + static_cast<std::ptrdiff_t>(id_offset() - id_page));
                    page = with_id;
                }
                sums.add(at, page);
                TRY_VOID(writer.add(at, page));
            }
            done.fetch_add(part.size(), std::memory_order_relaxed);
        }
    }
    TRY_VOID(writer.flush());
    auto contents = sums.take();
    contents.diff = diff;
    return contents;
}

Result<MemoryContents>
read_changed(int file, const MemoryContents& contents,
             const std::function<Result<void>(std::uint64_t offset, std::span<const std::byte> page)>& each) {
    Sums sums{contents.size};
    Page page{};
    for (const auto& piece : contents.changed)
        for (std::uint64_t i = 0; i < piece_size / page_size; ++i) {
            const auto at = piece.number * piece_size + i * page_size;
            if ((piece.pages[i / 8] >> i % 8 & std::byte{1}) == std::byte{})
                continue;
            if (at >= contents.size)
                return fail(Errc::snapshot_invalid,
                            "the snapshot's state speaks of memory behind the end of its memory");
            TRY_VOID(read_whole(file, page, at));
            sums.add(at, page);
            TRY_VOID(each(at, page));
        }
    return sums.take();
}

namespace {

/// A copy with the same holes; one that shares the blocks, where the file system can.
Result<void> copy_file(int from, int to, std::uint64_t size) {
    if (::ioctl(to, FICLONE, from) == 0) // NOLINT(*-vararg)
        return {};
    if (::ftruncate(to, static_cast<off_t>(size)) != 0)
        return fail_errno(Errc::output_unwritable, "cannot write the snapshot's memory");
    std::vector<std::byte> buffer(4 * MiB);
    for (std::uint64_t at = 0; at < size;) {
        const auto data = ::lseek(from, static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        if (data > 0)
            at = static_cast<std::uint64_t>(data) & ~(page_size - 1);
        const auto part = std::span{buffer}.first(std::min<std::uint64_t>(buffer.size(), size - at));
        TRY_VOID(read_whole(from, part, at));
        Writer writer{to};
        for (std::size_t i = 0; i < part.size(); i += page_size)
            if (const auto page = part.subspan(i, page_size); !is_zero(page))
                TRY_VOID(writer.add(at + i, page));
        TRY_VOID(writer.flush());
        at += part.size();
    }
    return {};
}

} // namespace

Result<MemoryContents> merge_memory(int base, int diff, const MemoryContents& contents, int out) {
    TRY_VOID(copy_file(base, out, contents.size));
    const auto found = TRY(read_changed(diff, contents, [&](std::uint64_t at, std::span<const std::byte> page) {
        if (is_zero(page) && ::fallocate(out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
                                         static_cast<off_t>(page.size())) == 0)
            return Result<void>{};
        return write_whole(out, page, at);
    }));
    if (found.sums != contents.sums)
        return fail(Errc::snapshot_invalid, "the memory of the Diff is damaged", "take another copy of it");
    return read_sums(out, contents.size);
}

Result<MemoryContents> read_sums(int file, std::uint64_t size) {
    Sums sums{size};
    std::vector<std::byte> buffer(4 * MiB);
    std::uint64_t at = 0;
    while (at < size) {
        const auto data = ::lseek(file, static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        if (data > 0)
            at = static_cast<std::uint64_t>(data) & ~(page_size - 1);
        const auto want = std::min<std::uint64_t>(buffer.size(), size - at);
        TRY_VOID(read_whole(file, std::span{buffer}.first(want), at));
        for (std::size_t i = 0; i + page_size <= want; i += page_size) {
            const auto page = std::span{buffer}.subspan(i, page_size);
            if (!is_zero(page))
                sums.add(at + i, page);
        }
        at += want;
    }
    return sums.take();
}

Result<void> check_memory(int file, std::uint64_t size, const MemoryId& id, const char* path) {
    struct stat status {};
    if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
        return fail(Errc::snapshot_missing, std::string{path} + " is not a regular file",
                    "name the memory file of a snapshot");
    if (static_cast<std::uint64_t>(status.st_size) != size)
        return fail(Errc::snapshot_invalid,
                    format("the snapshot's memory has %lld bytes, and its state speaks of %llu: %s",
                           static_cast<long long>(status.st_size), static_cast<unsigned long long>(size), path),
                    "the copy is not complete, or it is another snapshot's");
    MemoryId found{};
    if (::pread(file, found.data(), found.size(), static_cast<off_t>(id_offset())) !=
        static_cast<ssize_t>(found.size()))
        return fail_errno(Errc::snapshot_missing, std::string{"cannot read "} + path);
    if (found != id)
        return fail(Errc::snapshot_invalid, std::string{"the memory is another snapshot's than the state: "} + path,
                    "keep both files of a snapshot together");
    return {};
}

} // namespace inox::snapshot
