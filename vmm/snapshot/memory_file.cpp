// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/memory_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/memory/layout.hpp"
#include "vmm/snapshot/checksum.hpp"

namespace inox::snapshot {
namespace {

using Page = std::array<std::byte, page_size>;

bool is_zero(std::span<const std::byte> bytes) {
    // The first word differs from 0, or each byte equals the one before it: one call of the C library's fastest loop.
    std::uint64_t first = 0;
    std::memcpy(&first, bytes.data(), sizeof first);
    return first == 0 && std::memcmp(bytes.data(), bytes.data() + sizeof first, bytes.size() - sizeof first) == 0;
}

/// The sums of a file's pages, which come in order.
class Sums {
public:
    explicit Sums(std::uint64_t size) : contents_{.size = size} {}

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

/// The same of pages that this process has in memory or has swapped out.
void mark_own(int pages, std::span<const std::byte> bytes, std::vector<bool>& marks) {
    constexpr std::uint64_t present_or_swapped = std::uint64_t{3} << 62;
    std::vector<std::uint64_t> entries(marks.size());
    const auto first = reinterpret_cast<std::uintptr_t>(bytes.data()) / page_size; // NOLINT: the kernel's index
    const auto want = entries.size() * sizeof(std::uint64_t);
    const auto got = ::pread(pages, entries.data(), want, static_cast<off_t>(first * sizeof(std::uint64_t)));
    const auto known = got == static_cast<ssize_t>(want);
    for (std::size_t i = 0; i < marks.size(); ++i)
        if (!known || (entries[i] & present_or_swapped) != 0)
            marks[i] = true;
}

} // namespace

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

Result<MemoryContents> write_memory(int file, const GuestMemory& memory, int pages, const MemoryId& id,
                                    const std::atomic<bool>& stop, std::atomic<std::uint64_t>& done) {
    if (::ftruncate(file, static_cast<off_t>(memory.size())) != 0)
        return fail_errno(Errc::output_unwritable, "cannot make the snapshot's memory as large as the guest's",
                          "its file has to be a regular one");
    Sums sums{memory.size()};
    Writer writer{file};
    constexpr std::size_t step = 4 * MiB;
    Page with_id{};
    const auto id_page = id_offset() & ~(page_size - 1);
    std::uint64_t offset = 0;
    for (const auto& region : memory.regions()) {
        for (std::size_t start = 0; start < region.host.size(); start += step) {
            if (stop.load(std::memory_order_relaxed))
                return fail(Errc::wrong_state, "the snapshot was given up");
            const auto part = region.host.subspan(start, std::min(step, region.host.size() - start));
            std::vector<bool> marks(part.size() / page_size);
            if (memory.shared()) {
                mark_data(memory.fd(), region.file_offset + start, marks);
            } else {
                if (memory.image_fd() >= 0)
                    mark_data(memory.image_fd(), offset + start, marks);
                mark_own(pages, part, marks);
            }
            for (std::size_t i = 0; i < marks.size(); ++i) {
                const auto at = offset + start + i * page_size;
                const bool own = at == id_page;
                std::span<const std::byte> page = part.subspan(i * page_size, page_size);
                if (!own && (!marks[i] || is_zero(page)))
                    continue;
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
        offset += region.host.size();
    }
    TRY_VOID(writer.flush());
    return sums.take();
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
        std::size_t have = 0;
        while (have < want) {
            const auto got = ::pread(file, buffer.data() + have, want - have, static_cast<off_t>(at + have));
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return fail_errno(Errc::snapshot_missing, "cannot read the snapshot's memory");
            have += static_cast<std::size_t>(got);
        }
        for (std::size_t i = 0; i + page_size <= have; i += page_size) {
            const auto page = std::span{buffer}.subspan(i, page_size);
            if (!is_zero(page))
                sums.add(at + i, page);
        }
        at += have;
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
