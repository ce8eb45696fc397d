// SPDX-License-Identifier: Apache-2.0
// Watches serial output for a pattern, line by line.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "vmm/base/error.hpp"
#include "vmm/config/line_pattern.hpp"

namespace inox {

/// An unfinished line is searched too, so prompts match. Lines are cut at max_line bytes. What a guest writes costs
/// what LinePattern allows for each byte, and no memory. One thread at a time.
class Expect {
public:
    static constexpr std::size_t max_line = 4096;

    /// bad_option with the reason when the pattern does not compile.
    static Result<std::unique_ptr<Expect>> create(const std::string& pattern);

    /// Bytes that feed() searches in some milliseconds, whatever they are.
    [[nodiscard]] std::size_t piece() const noexcept { return 500'000 / pattern_.parts(); }
    /// True once the pattern was seen.
    bool feed(std::span<const std::byte> output) noexcept;

private:
    explicit Expect(LinePattern pattern) : pattern_{std::move(pattern)} {}
    LinePattern pattern_;
    std::size_t length_{0}; ///< of the line, so far
    bool seen_{false};
};

} // namespace inox
