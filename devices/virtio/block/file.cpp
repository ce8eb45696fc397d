// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/file.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "devices/virtio/block/image_format.hpp"
#include "devices/virtio/block/request.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/open_hint.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox::devices::virtio {
namespace {

std::string quoted(const std::string& path) { return "'" + path + "'"; }

std::string hint_for(int error, bool read_only) {
    if (error == ENOENT)
        return "create it, for example with truncate -s 1G, or correct the path";
    if (!read_only && (error == EROFS || error == EACCES || error == EPERM || error == ETXTBSY))
        return "make it writable for this user, or use the disk read-only";
    return open_hint(error);
}

Result<UniqueFd> open_image(const std::string& path, bool read_only) {
    // O_NONBLOCK: opening a FIFO by mistake must not wait for its writer.
    UniqueFd fd = outside::open(path, (read_only ? O_RDONLY : O_RDWR) | O_NOCTTY | O_NONBLOCK);
    if (!fd && errno == EISDIR)
        return fail(Errc::disk_invalid, "disk image " + quoted(path) + " is a directory",
                    "give a raw image file or a block device");
    if (!fd)
        return fail_errno(Errc::disk_missing, "cannot open disk image " + quoted(path), hint_for(errno, read_only));
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
    return fd;
}

Result<std::uint64_t> whole_size(int fd, const std::string& path) {
    const std::uint64_t size = TRY(file_size(fd));
    if (size % sector_size != 0)
        log::write(log::Level::warning,
                   "disk image '%s' has %ju bytes, which is not whole sectors: the guest does not see the last %u; "
                   "truncate -s %%512 extends it",
                   path.c_str(), uintmax_t{size}, static_cast<unsigned>(size % sector_size));
    if (size < sector_size)
        log::write(log::Level::warning, "disk image '%s' holds no sector: the guest sees a disk of size 0",
                   path.c_str());
    return align_down(size, sector_size);
}

int allocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept {
    while (::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

int write_out_zeroes(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
    static constexpr std::size_t chunk = 64 * KiB;
    alignas(page_size) static std::array<std::byte, chunk> zeroes{}; // never written
    std::array<iovec, 64> pieces{};
    pieces.fill({zeroes.data(), zeroes.size()});
    while (length != 0) {
        const std::size_t whole = std::min<std::size_t>(length / chunk, pieces.size());
        const ssize_t done = whole == 0
                                 ? ::pwrite(fd, zeroes.data(), length, static_cast<off_t>(offset))
                                 : ::pwritev(fd, pieces.data(), static_cast<int>(whole), static_cast<off_t>(offset));
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : EIO;
        offset += static_cast<std::uint64_t>(done);
        length -= static_cast<std::uint64_t>(done);
    }
    return 0;
}

} // namespace

Result<BlockFile> BlockFile::open(const std::string& path, bool read_only, ImageContents contents,
                                  const char* way_out) {
    BlockFile file{TRY(open_image(path, read_only)), path};
    TRY_VOID(file.inspect());
    if (contents == ImageContents::raw_disk)
        TRY_VOID(file.check_format(way_out));
    TRY_VOID(file.lock(read_only));
    // The size counts from here on, as the lock keeps others from changing it.
    TRY_VOID(file.refresh_size());
    return file;
}

Result<BlockFile> BlockFile::open_temporary(const std::string& path, ImageContents contents, const char* way_out) {
    BlockFile file = TRY(open(path, true, contents, way_out));
    file.overlay_ = std::make_unique<BlockOverlay>(TRY(BlockOverlay::create(file.size_)));
    return file;
}

Result<void> BlockFile::inspect() {
    struct stat status {};
    if (::fstat(fd(), &status) != 0)
        return fail_errno(Errc::disk_missing, "cannot inspect disk image " + quoted(path_));
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return fail(Errc::disk_invalid,
                    "disk image " + quoted(path_) +
                        (S_ISDIR(status.st_mode) ? " is a directory" : " is neither a file nor a block device"),
                    "give a raw image file or a block device");
    is_device_ = S_ISBLK(status.st_mode);
    device_id_ = status.st_dev;
    inode_ = status.st_ino;
    if (is_device_)
        read_device_topology();
    else if (const auto block = static_cast<std::uint32_t>(status.st_blksize);
             std::has_single_bit(block) && block >= sector_size && block <= 64 * KiB)
        topology_.physical = topology_.discard_unit = block;
    std::byte byte{};
    const iovec one{&byte, 1};
    takes_nowait_ = ::preadv2(fd(), &one, 1, 0, RWF_NOWAIT) >= 0 || errno != EOPNOTSUPP;
    return {};
}

/// Called before anything is written: a partition table written into a qcow2 image's header would destroy the image.
Result<void> BlockFile::check_format(const char* way_out) const {
    std::array<std::byte, format_head> head{};
    std::array<std::byte, format_tail> tail{};
    const std::uint64_t size = TRY(file_size(fd()));
    const ssize_t got = ::pread(fd(), head.data(), head.size(), 0);
    const ssize_t last =
        size < tail.size() ? 0 : ::pread(fd(), tail.data(), tail.size(), static_cast<off_t>(size - tail.size()));
    if (got < 0 || last < 0)
        return fail_errno(Errc::disk_missing, "cannot read disk image " + quoted(path_),
                          "is the storage in order, and the path that of an image?");
    if (const auto format = foreign_format(std::span{head}.first(static_cast<std::size_t>(got)),
                                           std::span{tail}.first(static_cast<std::size_t>(last))))
        return fail(Errc::disk_invalid,
                    "disk image " + quoted(path_) + " is a file of the " + format->name + " format, not a raw disk",
                    conversion_hint(*format, path_) + "; or " + way_out);
    return {};
}

void BlockFile::read_device_topology() {
    auto ask = [this](unsigned long request, std::uint32_t fallback) {
        std::uint32_t value = 0; // all of these ioctls write 4 bytes
        return ::ioctl(fd(), request, &value) == 0 && value != 0 ? value : fallback;
    };
    topology_.logical = ask(BLKSSZGET, 512);
    topology_.physical = std::max(ask(BLKPBSZGET, topology_.logical), topology_.logical);
    topology_.minimum_io = ask(BLKIOMIN, 0);
    topology_.optimal_io = ask(BLKIOOPT, 0);
    topology_.discard_unit = topology_.logical;
}

Result<void> BlockFile::lock(bool read_only) {
    struct flock lock {};
    lock.l_type = static_cast<short>(read_only ? F_RDLCK : F_WRLCK);
    lock.l_whence = SEEK_SET;
    if (::fcntl(fd(), F_OFD_SETLK, &lock) == 0)
        return {};
    if (errno == EAGAIN || errno == EACCES)
        return fail(Errc::in_use, "disk image " + quoted(path_) + " is in use",
                    read_only ? "end the process that writes to it"
                              : "end the other user, or use the disk read-only in both places");
    log::write(log::Level::warning,
               "disk image '%s' lies where files cannot be locked: make sure that nothing else writes to it",
               path_.c_str());
    return {};
}

void BlockFile::unlock() const noexcept {
    struct flock lock {};
    lock.l_type = F_UNLCK;
    lock.l_whence = SEEK_SET;
    static_cast<void>(::fcntl(fd(), F_OFD_SETLK, &lock)); // NOLINT(*-vararg)
}

bool BlockFile::is(const std::string& path) const {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && status.st_dev == device_id_ && status.st_ino == inode_;
}

Result<void> BlockFile::refresh_size() {
    if (overlay_)
        return {};
    size_ = TRY(whole_size(fd(), path_));
    return {};
}

std::uint64_t BlockFile::present_size() const noexcept {
    struct statx status {};
    if (is_device_ || ::statx(fd(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &status) != 0)
        return size_;
    return std::min<std::uint64_t>(size_, status.stx_size);
}

int BlockFile::sync() const noexcept {
    if (overlay_)
        return 0; // nothing of it outlives the process
    while (::fdatasync(fd()) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

int BlockFile::discard(std::uint64_t offset, std::uint64_t length) const noexcept {
    if (overlay_)
        return overlay_->clear(fd(), offset, length);
    int error = 0;
    if (is_device_) {
        std::uint64_t range[2]{offset, length};
        error = ::ioctl(fd(), BLKDISCARD, range) == 0 ? 0 : errno;
    } else {
        error = allocate(fd(), discard_mode(*this), offset, length);
    }
    // 5.2.6.2: a device may ignore a discard.
    return is_unsupported(error) ? 0 : error;
}

int BlockFile::write_zeroes(std::uint64_t offset, std::uint64_t length, bool unmap) const noexcept {
    if (overlay_)
        return overlay_->clear(fd(), offset, length);
    int error = allocate(fd(), write_zeroes_mode(unmap), offset, length);
    if (is_unsupported(error) && is_device_) {
        std::uint64_t range[2]{offset, length};
        error = ::ioctl(fd(), BLKZEROOUT, range) == 0 ? 0 : errno;
    }
    return is_unsupported(error) ? write_out_zeroes(fd(), offset, length) : error;
}

int zero_file(int fd, std::uint64_t offset, std::uint64_t length, bool unmap) noexcept {
    const int error = allocate(fd, write_zeroes_mode(unmap), offset, length);
    return is_unsupported(error) ? write_out_zeroes(fd, offset, length) : error;
}

int discard_mode(const BlockFile& file) { return file.is_device() ? -1 : write_zeroes_mode(true); }

int write_zeroes_mode(bool unmap) {
    return FALLOC_FL_KEEP_SIZE | (unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

bool is_unsupported(int error) { return error == EOPNOTSUPP || error == ENOSYS || error == ENOTTY || error == EINVAL; }

} // namespace inox::devices::virtio
