// SPDX-License-Identifier: Apache-2.0
// Owners of operating-system objects. Everything here closes itself; nothing has a release call to forget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "vmm/base/error.hpp"

namespace inox {

class UniqueFd {
public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_{fd} {}
    UniqueFd(UniqueFd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        reset(std::exchange(other.fd_, -1));
        return *this;
    }
    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;
    ~UniqueFd() { reset(); }

    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] explicit operator bool() const { return fd_ >= 0; }
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }
    void reset(int fd = -1);

private:
    int fd_{-1};
};

/// A shared or private memory mapping; unmapped at the end.
class Mapping {
public:
    Mapping() = default;
    Mapping(Mapping&& other) noexcept : bytes_{std::exchange(other.bytes_, {})} {}
    Mapping& operator=(Mapping&& other) noexcept;
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping();

    /// mmap(2) with these arguments; `offset` in bytes.
    static Result<Mapping> create(std::size_t size, int protection, int flags, int fd, std::int64_t offset);
    /// The same at an address that is a multiple of `alignment`, a power of two and whole pages. The size is whole
    /// pages.
    static Result<Mapping> create_aligned(std::size_t alignment, std::size_t size, int protection, int flags, int fd,
                                          std::int64_t offset);
    [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

private:
    explicit Mapping(std::span<std::byte> bytes) : bytes_{bytes} {}
    std::span<std::byte> bytes_{};
};

/// A counter that wakes whoever polls it. Copy-free; usable from any thread.
class EventFd {
public:
    static Result<EventFd> create();
    [[nodiscard]] int fd() const { return fd_.get(); }
    /// Adds one. Never blocks.
    void signal() const noexcept;
    /// Returns the count and sets it to 0.
    std::uint64_t drain() const noexcept;

private:
    explicit EventFd(UniqueFd fd) : fd_{std::move(fd)} {}
    UniqueFd fd_;
};

/// Undoes something when it dies: a bus entry, an ioeventfd, an irqfd, a watch.
class [[nodiscard]] Registration {
public:
    Registration() = default;
    explicit Registration(std::move_only_function<void()> undo) : undo_{std::move(undo)} {}
    Registration(Registration&& other) noexcept : undo_{std::exchange(other.undo_, nullptr)} {}
    Registration& operator=(Registration&& other) noexcept {
        reset();
        undo_ = std::exchange(other.undo_, nullptr);
        return *this;
    }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;
    ~Registration() { reset(); }
    /// Whether there is something to undo.
    [[nodiscard]] explicit operator bool() const { return undo_ != nullptr; }
    void reset() {
        if (auto undo = std::exchange(undo_, nullptr))
            undo();
    }

private:
    std::move_only_function<void()> undo_{};
};

/// open(2) with O_CLOEXEC added. The error carries `code` and names the path.
Result<UniqueFd> open_file(const std::string& path, int flags, Errc code, unsigned mode = 0644);
enum class OutputStart : std::uint8_t { append, replace };
/// A file or named pipe to write to, that never blocks: O_NONBLOCK; a pipe opens without a reader and stays open when
/// one leaves. output_unwritable.
Result<UniqueFd> open_output(const std::string& path, OutputStart start = OutputStart::append);
/// Why no file could be made at `path`, by what its folder allows; 0: one could. Nothing is made.
int creation_error(const std::string& path);
/// Whether open_output() could open or make the file, without doing so.
Result<void> check_output(const std::string& path);
/// Size in bytes of an open regular file or block device.
Result<std::uint64_t> file_size(int fd);
/// Writes the whole buffer; retries short writes and EINTR.
Result<void> write_all(int fd, std::span<const std::byte> bytes);
Result<void> write_all(int fd, std::string_view text);
/// ioctl(2), retried on EINTR, with the request's name in the error.
Result<int> checked_ioctl(int fd, unsigned long request, void* argument, const char* name);
Result<int> checked_ioctl(int fd, unsigned long request, std::uint64_t argument, const char* name);

} // namespace inox
