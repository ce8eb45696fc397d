// SPDX-License-Identifier: Apache-2.0
// What --fail-on looks for in the guest's console: lines that make a run a failure, with their places.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/base/escape_filter.hpp"
#include "vmm/config/line_pattern.hpp"

namespace inox {

struct Finding {
    std::uint64_t line{}; ///< of the serial log, from 1
    std::string kind{};   ///< "oops", ..., or the expression that was found
    std::string text{};   ///< the line, without control characters, cut at Findings::longest_line
};

/// feed() on vCPU threads, the rest on any. A line costs what LinePattern allows for each byte; memory is bounded by
/// most_kept lines.
class Findings {
public:
    static constexpr std::size_t longest_line = 512; ///< what is behind it is not looked at
    static constexpr std::size_t most_kept = 100;
    static constexpr std::string_view kernel_word = "kernel"; ///< stands for Linux's own reports

    /// The words of --fail-on: "kernel" for Linux's own reports, else an expression. bad_option.
    static Result<std::unique_ptr<Findings>> create(std::span<const std::string> patterns);

    /// Bytes that feed() looks at in some milliseconds, whatever they are.
    [[nodiscard]] std::size_t piece() const noexcept { return 1 + 500'000 / (1 + parts_); }
    /// Ends of lines are '\n'; the rest of a line may come later.
    void feed(std::span<const std::byte> output) noexcept;
    /// Looks at nothing more.
    void ignore_rest() noexcept;
    /// Looks at a last line that has no end.
    void finish() noexcept;

    /// The first ones, in the order of the log.
    [[nodiscard]] std::vector<Finding> list() const;
    /// All, also those that are not kept.
    [[nodiscard]] std::uint64_t count() const;

private:
    struct Pattern {
        std::string text;
        LinePattern pattern;
    };
    void take(char c);
    void look();
    void add(std::string_view kind);

    std::size_t parts_{0};       ///< of all patterns; does not change after create()
    mutable std::mutex mutex_{}; // guards all below
    bool kernel_{false};
    bool ignoring_{false};
    std::vector<Pattern> patterns_{};
    std::string line_{};
    EscapeFilter escapes_{};
    std::uint64_t number_{1};
    bool stamps_{false};       ///< this kernel's lines have time stamps
    unsigned report_lines_{0}; ///< that a kernel's report may go on for
    std::vector<Finding> found_{};
    std::uint64_t count_{0};
};

} // namespace inox
