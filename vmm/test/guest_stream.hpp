// SPDX-License-Identifier: Apache-2.0
// Follows a file that a guest's output goes to.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/os.hpp"

namespace inox::test {

class GuestStream {
public:
    static constexpr std::size_t longest_line = 64 * 1024; ///< a longer one is cut into lines

    /// The file need not be there yet. `line` gets each line with its '\n', the last one perhaps without.
    GuestStream(std::string path, std::function<void(std::string_view line)> line)
        : path_{std::move(path)}, line_{std::move(line)} {}

    /// What has come since the last call.
    void read();
    /// The same, and the rest as a line; nothing follows.
    void finish();

private:
    std::string path_;
    std::function<void(std::string_view)> line_;
    UniqueFd file_{};
    std::string rest_{};
};

/// The last lines of a file, at most so many and 8 KiB of them, without carriage returns.
std::string last_lines(const std::string& path, std::size_t count);
/// At most `most` bytes of a file; empty: it cannot be read.
std::optional<std::string> read_start(const std::string& path, std::size_t most);

} // namespace inox::test
