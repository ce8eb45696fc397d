// SPDX-License-Identifier: Apache-2.0
// Follows a file that a guest's output goes to.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/os.hpp"

namespace inox::test {

/// A file that grows without end keeps its start and its end: what is between was read, and its blocks are given back
/// where the file system can do that.
class GuestStream {
public:
    static constexpr std::size_t longest_line = 64 * 1024; ///< a longer one is cut into lines
    static constexpr off_t usual_kept = 64 * 1024 * 1024;  ///< bytes at each end; the end may be twice as long

    /// The file need not be there yet. `line` gets each line with its '\n', the last one perhaps without.
    GuestStream(std::string path, std::function<void(std::string_view line)> line, off_t kept = usual_kept)
        : path_{std::move(path)}, line_{std::move(line)}, kept_{kept} {}

    /// What has come since the last call, at most 16 MiB.
    void read();
    /// All that has come, and the rest as a line; nothing follows. A file that lost its middle then has a line there
    /// that says so.
    void finish();
    /// After finish(): what the file lacks, for people; empty when it is whole.
    [[nodiscard]] std::string left_out() const;
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    bool read_piece(); // false: nothing has come
    void give_back();
    void close_gap();

    std::string path_;
    std::function<void(std::string_view)> line_;
    off_t kept_;
    UniqueFd file_{};
    std::string rest_{};
    off_t read_{0};      ///< bytes
    off_t gap_until_{0}; ///< bytes from kept_ to here are gone; 0: none are
    std::uint64_t lines_{0};
    std::uint64_t lost_bytes_{0};
    std::uint64_t lost_lines_{0};
};

/// The last lines of a file, at most so many and 8 KiB of them, without carriage returns.
std::string last_lines(const std::string& path, std::size_t count);
/// At most `most` bytes of a file; empty: it cannot be read.
std::optional<std::string> read_start(const std::string& path, std::size_t most);

} // namespace inox::test
