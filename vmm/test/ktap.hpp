// SPDX-License-Identifier: Apache-2.0
// Results of tests that a guest prints as KTAP or TAP: KUnit, kselftest and its programs, and others.
// (Linux, Documentation/dev-tools/ktap.rst.)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace inox::test {

enum class Status : std::uint8_t {
    passed,
    failed,  ///< the test says so
    skipped, ///< also what is known to fail (XFAIL, TODO)
    error,   ///< there is no answer: a time limit, a plan with a result missing, "Bail out!"
};

struct CaseResult {
    std::string name{}; ///< with the names of the tests around it: "suite.case"
    Status status{Status::passed};
    std::string text{}; ///< why, for those that did not pass; at most Ktap::longest_text bytes

    bool operator==(const CaseResult&) const = default;
};

/// Takes the lines of one stream. Nothing counts before a version line, so that other output is no result.
class Ktap {
public:
    static constexpr std::size_t longest_text = 4096;
    static constexpr std::size_t most_results = 100'000; ///< the others are counted by dropped()
    static constexpr std::size_t deepest = 16;           ///< levels; deeper ones count as text

    /// One line, with or without its end. The time stamps of a kernel's log are cut off.
    void take(std::string_view line);
    /// The stream has ended. `why` is the text of results that are missing.
    void finish(std::string_view why = {});

    /// In the order of their lines. Of a test with tests in it the inner ones, and the outer one only where none of
    /// them explains its failure. After finish().
    [[nodiscard]] const std::vector<CaseResult>& results() const { return results_; }
    [[nodiscard]] std::size_t dropped() const { return dropped_; }

private:
    struct Level {
        std::size_t indent{}; ///< columns before its lines
        std::size_t first{};  ///< of results_: its first one
        std::string name{};   ///< from "# Subtest:"
        std::uint64_t plan{}; ///< results that were announced
        std::uint64_t seen{}; ///< result lines
        std::uint64_t gap{};  ///< the first number that was left out; 0 when none was
    };
    struct Line {
        std::size_t indent{};    ///< "# ", with which kselftest marks a program's lines, counts as two columns
        bool marked{};           ///< it had such a mark
        std::string_view text{}; ///< behind the indent
    };
    static Line measure(std::string_view line);

    bool version(const Line& line);
    bool plan(const Line& line);
    bool subtest(const Line& line);
    bool result(const Line& line);
    void open(std::size_t indent);
    void open(std::size_t indent, std::size_t first);
    /// Ends the levels deeper than this one; their results become inner ones of the next result line.
    void close_below(std::size_t indent, std::string_view why);
    void end_level(std::string_view why);
    void add(std::string name, Status status, std::string text);
    void keep_text(std::string_view line);

    std::vector<Level> levels_{};
    std::size_t inner_{no_inner}; ///< of results_: the first of the levels that have just ended
    std::string text_{};          ///< lines since the last result
    std::vector<CaseResult> results_{};
    std::size_t dropped_{0};
    static constexpr std::size_t no_inner = SIZE_MAX;
};

} // namespace inox::test
