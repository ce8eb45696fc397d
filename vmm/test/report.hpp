// SPDX-License-Identifier: Apache-2.0
// What `inox test` tells of its machines: for people, as JUnit XML, and as TAP 14.
#pragma once

#include <span>
#include <string>

#include "vmm/test/outcome.hpp"
#include "vmm/test/plan.hpp"

namespace inox::test {

struct Done {
    Machine machine{};
    Outcome outcome{};
    std::string repeat{};   ///< the line that repeats it
    std::string command{};  ///< what the guest ran, as one line; empty: it ended by itself
    std::string log_tail{}; ///< the end of its console, for those that failed
};

/// A machine that did not run.
Done not_run(const Plan& plan, const Machine& machine, std::string why);

/// The verdict on one machine: its lines are complete and end with '\n'.
std::string verdict_text(const Done& done);
/// A line for each machine, and one for all. `seconds`: of the whole test.
std::string table_text(std::span<const Done> all, double seconds);
/// testsuite: a machine; testcase: its boot and command, and each test that the guest reported. The classname has the
/// kernel and the machine, because readers take two cases of one classname and name for the same.
std::string junit_xml(std::span<const Done> all, double seconds);
/// A result for each machine, with those of the guest as subtests.
std::string tap_text(std::span<const Done> all);

/// Without what XML 1.0 forbids: control characters, bytes that are no UTF-8.
std::string xml_text(std::string_view text);

} // namespace inox::test
