// SPDX-License-Identifier: Apache-2.0
// Watches serial output for a pattern, line by line.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "vmm/base/error.hpp"
#include "vmm/config/line_pattern.hpp"

namespace inox {

/// An unfinished line is searched too. Where a match depends on what follows ($, \>, \b), the line must be still for a
/// while to be a prompt: the guest writes byte by byte, and 'ok$' is not in "ok, but 3 failed". Lines are cut at
/// max_line bytes. What a guest writes costs what LinePattern allows for each byte, and no memory. One thread at a
/// time.
class Expect {
public:
    static constexpr std::size_t max_line = 4096;
    static constexpr std::chrono::seconds still_for{1}; ///< then an unfinished line is a prompt

    /// bad_option with the reason when the pattern does not compile.
    static Result<std::unique_ptr<Expect>> create(const std::string& pattern);

    /// Bytes that feed() searches in some milliseconds, whatever they are.
    [[nodiscard]] std::size_t piece() const noexcept { return 500'000 / pattern_.parts(); }
    /// True once the pattern was seen, whatever follows.
    bool feed(std::span<const std::byte> output) noexcept;
    /// Whether the unfinished line has it, if nothing follows.
    [[nodiscard]] bool at_prompt() noexcept { return length_ != 0 && pattern_.found(); }
    /// Whether the last line has not ended; after feed() was true: whether that is the line with the match.
    [[nodiscard]] bool in_line() const noexcept { return length_ != 0; }
    /// Bytes that feed() got.
    [[nodiscard]] std::uint64_t fed() const noexcept { return fed_; }

private:
    explicit Expect(LinePattern pattern) : pattern_{std::move(pattern)} {}
    LinePattern pattern_;
    std::size_t length_{0}; ///< of the line, so far
    std::uint64_t fed_{0};
    bool seen_{false};
};

} // namespace inox
