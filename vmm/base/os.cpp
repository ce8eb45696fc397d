// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/os.hpp"

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/base/open_hint.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox {

void UniqueFd::reset(int fd) {
    if (fd_ >= 0)
        ::close(fd_);
    fd_ = fd;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    if (this != &other) {
        if (!bytes_.empty())
            ::munmap(bytes_.data(), bytes_.size());
        bytes_ = std::exchange(other.bytes_, {});
    }
    return *this;
}

Mapping::~Mapping() {
    if (!bytes_.empty())
        ::munmap(bytes_.data(), bytes_.size());
}

Result<Mapping> Mapping::create(std::size_t size, int protection, int flags, int fd, std::int64_t offset) {
    void* address = ::mmap(nullptr, size, protection, flags, fd, offset);
    if (address == MAP_FAILED) // NOLINT: the macro casts
        return fail_errno(Errc::host_error, format("mmap of %zu bytes failed", size));
    return Mapping{{static_cast<std::byte*>(address), size}};
}

Result<Mapping> Mapping::create_aligned(std::size_t alignment, std::size_t size, int protection, int flags, int fd,
                                        std::int64_t offset) {
    if (size > SIZE_MAX - alignment)
        return fail(Errc::host_error, format("mmap of %zu bytes: too large", size));
    // Reserves more than is needed, so that both ends can be cut off.
    auto around = TRY(create(size + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    const auto all = around.bytes();
    const auto first = reinterpret_cast<std::uintptr_t>(all.data()); // NOLINT
    const std::size_t head = (alignment - first % alignment) % alignment;
    const auto middle = all.subspan(head, size);
    if (::mmap(middle.data(), size, protection, flags | MAP_FIXED, fd, offset) == MAP_FAILED) // NOLINT: the macro casts
        return fail_errno(Errc::host_error, format("mmap of %zu bytes failed", size));
    around.bytes_ = {};
    if (head != 0)
        ::munmap(all.data(), head);
    if (head != alignment)
        ::munmap(middle.data() + size, alignment - head);
    return Mapping{middle};
}

Result<EventFd> EventFd::create() {
    UniqueFd fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!fd)
        return fail_errno(Errc::host_error, "eventfd failed", "raise the limit on open files (ulimit -n)");
    return EventFd{std::move(fd)};
}

void EventFd::signal() const noexcept {
    const std::uint64_t one = 1;
    // EAGAIN means the counter is saturated: the reader is awake already.
    [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

std::uint64_t EventFd::drain() const noexcept {
    std::uint64_t count = 0;
    return ::read(fd_.get(), &count, sizeof count) == sizeof count ? count : 0;
}

namespace {

constexpr auto output_hint = "name a file in a directory you may write to";

bool is_pipe(int fd) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

} // namespace

Result<UniqueFd> open_file(const std::string& path, int flags, Errc code, unsigned mode) {
    UniqueFd fd = outside::open(path, flags, mode);
    if (!fd)
        return fail_errno(code, "cannot open '" + path + "'");
    return fd;
}

Result<UniqueFd> open_output(const std::string& path, OutputStart start) {
    const int flags = O_CREAT | O_NONBLOCK | O_NOCTTY | (start == OutputStart::append ? O_APPEND : O_TRUNC);
    // A guest's output may be secret: only the owner may read a file that is created here.
    auto file = open_file(path, flags | O_WRONLY, Errc::output_unwritable, 0600);
    // A named pipe is opened in both directions, so that it needs no reader.
    if (file ? is_pipe(file->get()) : file.error().sys_errno == ENXIO)
        if (auto both = open_file(path, flags | O_RDWR, Errc::output_unwritable); both || !file)
            file = std::move(both);
    if (!file)
        file.error().hint = open_hint(file.error().sys_errno, output_hint);
    return file;
}

int creation_error(const std::string& path) {
    const auto slash = path.rfind('/');
    const std::string folder = slash == path.npos ? "." : path.substr(0, slash + 1);
    struct statfs system {};
    if (::access(folder.c_str(), W_OK | X_OK) != 0 || ::statfs(folder.c_str(), &system) != 0)
        return errno;
    // Here access(2) lets root write where nobody can make a file.
    return system.f_type == PROC_SUPER_MAGIC ? ENOENT : system.f_type == SYSFS_MAGIC ? EACCES : 0;
}

Result<void> check_output(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0)
        errno = errno == ENOENT ? creation_error(path) : errno;
    else if (S_ISDIR(status.st_mode) || S_ISSOCK(status.st_mode))
        errno = S_ISDIR(status.st_mode) ? EISDIR : ENXIO;
    else if (S_ISCHR(status.st_mode)) // only its driver knows: nobody can open /dev/tty without a terminal
        errno = outside::open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY) ? 0 : errno;
    else if (::access(path.c_str(), W_OK) == 0)
        errno = 0;
    if (errno == 0)
        return {};
    return fail_errno(Errc::output_unwritable, "cannot open '" + path + "'", open_hint(errno, output_hint));
}

Result<std::uint64_t> file_size(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0)
        return fail_errno(Errc::host_error, "fstat failed");
    if (S_ISBLK(status.st_mode)) {
        std::uint64_t size = 0;
        TRY_VOID(checked_ioctl(fd, BLKGETSIZE64, &size, "BLKGETSIZE64"));
        return size;
    }
    return static_cast<std::uint64_t>(status.st_size);
}

Result<void> write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return fail_errno(Errc::host_error, "write failed");
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

Result<void> write_all(int fd, std::string_view text) { return write_all(fd, std::as_bytes(std::span{text})); }

Result<int> checked_ioctl(int fd, unsigned long request, void* argument, const char* name) {
    int result = 0;
    do {
        result = ::ioctl(fd, request, argument);
    } while (result < 0 && errno == EINTR);
    if (result < 0)
        return fail_errno(Errc::host_error, std::string{name} + " failed");
    return result;
}

Result<int> checked_ioctl(int fd, unsigned long request, std::uint64_t argument, const char* name) {
    return checked_ioctl(fd, request, reinterpret_cast<void*>(argument), name); // NOLINT: the kernel takes a long
}

} // namespace inox
