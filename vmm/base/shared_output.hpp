// SPDX-License-Identifier: Apache-2.0
// Standard output and error: open files that we share with whoever started us.
#pragma once

#include <chrono>
#include <cstddef>
#include <string_view>

#include "vmm/base/os.hpp"

namespace inox {

/// Writes to a descriptor that other processes share, without ever waiting in write() and without making it
/// non-blocking for them: a pipe and a terminal are opened a second time, a socket is told by each send. Any thread.
class SharedOutput {
public:
    /// `fd` stays the caller's and open.
    explicit SharedOutput(int fd);

    /// Bytes taken, fewer than all when there is no room for more; -1 with errno, EAGAIN when there is none now.
    [[nodiscard]] std::ptrdiff_t write(const void* data, std::size_t size) const noexcept;
    /// All of it, as long as the reader takes some within `patience`, and in eight times that. False: a part is lost.
    bool write_within(std::string_view text, std::chrono::milliseconds patience) const noexcept;
    /// Writable when write() may take more.
    [[nodiscard]] int fd() const { return own_ ? own_.get() : fd_; }

private:
    enum class Way : std::uint8_t { plain, send, look_first };

    int fd_;
    UniqueFd own_{};
    Way way_{Way::plain};
};

/// Standard error, opened at the first call; lives for ever. Any thread.
const SharedOutput& shared_error();
/// Another file is standard error now: it is opened anew. While there is one thread.
void renew_shared_error();

} // namespace inox
