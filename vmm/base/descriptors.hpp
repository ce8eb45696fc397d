// SPDX-License-Identifier: Apache-2.0
// The process's descriptors as a whole: how many there may be, for whom, and which came with the start.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

namespace inox::descriptors {

/// The limit (RLIMIT_NOFILE) becomes as high as it may: many systems keep it low for programs that use select(2).
void raise_limit();

/// Where the kernel shows a process its own.
inline constexpr std::array<std::string_view, 2> folders{"/dev/fd/", "/proc/self/fd/"};

/// A path in `text` such as /dev/fd/5 or /proc/self/fd/5 names a descriptor that the process was started with: it
/// stays open. Before close_inherited(), on the main thread.
void keep_named(std::string_view text);
/// The same by number; below 3 nothing.
void keep(int fd);
/// Numbers such as "5,6", each from 3; empty when the text is none.
std::vector<int> parse_list(std::string_view text);
/// Whether there is such a descriptor now.
[[nodiscard]] bool is_open(int fd);
/// Closes what the process was started with, but for 0 to 2 and those named. Before anything is opened to stay.
void close_inherited();

/// Sets descriptors aside for somebody who must never lack them. Any thread.
class Reserve {
public:
    explicit Reserve(std::size_t count);
    ~Reserve();
    Reserve(const Reserve&) = delete;
    Reserve& operator=(const Reserve&) = delete;

private:
    std::size_t count_;
};

/// How many may be spent on what a guest asks for: the limit without what is reserved, which counts for half of it at
/// most, and without some for the machine itself.
[[nodiscard]] std::size_t spendable();

/// Whether `count` more could be opened now. Costs two calls each. Any thread.
[[nodiscard]] bool left(std::size_t count);

} // namespace inox::descriptors
