// SPDX-License-Identifier: Apache-2.0
// What became of one machine: from how `inox run` ended, its result file, and the tests that the guest reported.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/test/ktap.hpp"

namespace inox::test {

/// In the order in which one counts more than another for the whole test.
enum class Verdict : std::uint8_t {
    panic,    ///< the kernel's end
    hang,     ///< or a lockup, or a stall
    findings, ///< the kernel reported something else
    failed,   ///< the command, or a test in it
    timeout,
    unable, ///< host, image or options are to blame: the kernel was not tried
    good,
};
/// "panic", "hang", "kernel report", "failed", "timeout", "not run", "ok"
std::string_view verdict_word(Verdict verdict);

struct Outcome {
    static constexpr int good_code = 0;
    static constexpr int largest_command_code = 119;
    static constexpr int unable_code = 125;

    Verdict verdict{Verdict::unable};
    int code{unable_code};              ///< 0 to 125, as `git bisect run` takes them
    std::string why{};                  ///< one line; empty when it is good
    std::vector<std::string> details{}; ///< lines: what the kernel reported, where its vCPUs were, a hint
    double seconds{};                   ///< from the guest's start to its end; of the process, if it did not start
    std::vector<CaseResult> cases{};    ///< of tests that the guest reported
    std::size_t dropped_cases{};
    std::string folder{}; ///< with what was kept; empty: nothing was
};

/// How the process of `inox run` ended.
struct ProcessEnd {
    int code{};   ///< of its exit
    int signal{}; ///< that ended it; 0: none
    double seconds{};
    bool interrupted{}; ///< by us, for the operator
};
/// `result`: the text of the result file; nullopt: there is none. `errors`: what `inox run` printed on standard error.
Outcome judge(const ProcessEnd& end, const std::optional<std::string>& result, const std::string& errors);
/// A test that failed, or has no result, makes a good machine a failed one. Once.
void add_cases(std::vector<CaseResult> cases, Outcome& outcome);

/// The code of the whole: that of the verdict that counts most.
int whole_code(const std::vector<Outcome>& outcomes);

/// For machines that run elsewhere.
std::string outcome_json(const Outcome& outcome);
Result<Outcome> read_outcome(const std::string& json);

} // namespace inox::test
