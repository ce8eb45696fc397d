// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/ktap.hpp"

#include <sstream>

#include "tests/catch.hpp"

namespace inox::ktap_test {
namespace {

using test::CaseResult;
using test::Ktap;
using test::Status;

std::vector<CaseResult> read(const std::string& text, std::string_view why = {}) {
    Ktap ktap;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);)
        ktap.take(line);
    ktap.finish(why);
    return ktap.results();
}

std::string names(const std::vector<CaseResult>& results) {
    static constexpr const char* words[] = {"+", "-", "s", "e"};
    std::string out;
    for (const auto& one : results)
        out += (out.empty() ? "" : " ") + std::string{words[static_cast<int>(one.status)]} + one.name;
    return out;
}

} // namespace

TEST_CASE("a flat stream of results") {
    const auto found = read("KTAP version 1\n1..5\nok 1 first\nnot ok 2 - second\nok 3 third # SKIP no device\n"
                            "not ok 4 fourth # XFAIL known\nnot ok 5 fifth # TIMEOUT 45 seconds\n");
    CHECK(names(found) == "+first -second sthird sfourth efifth");
    CHECK(found[2].text == "SKIP no device");
    CHECK(found[4].text == "TIMEOUT 45 seconds");
}

TEST_CASE("output without a version line has no results") {
    CHECK(read("ok 1 this is what a program says\n1..4\nnot ok 2 and more\n").empty());
}

TEST_CASE("KUnit in a kernel's log: stamps, four columns a level, parameters, the text of a failure") {
    const auto found = read("[    0.100000] KTAP version 1\r\n"
                            "[    0.100001] 1..2\r\n"
                            "[    0.100002]     KTAP version 1\r\n"
                            "[    0.100003]     # Subtest: list\r\n"
                            "[    0.100004]     # module: list_test\r\n"
                            "[    0.100005]     1..2\r\n"
                            "[    0.100006]     ok 1 add\r\n"
                            "[    0.100007]     # del: EXPECTATION FAILED at lib/list_test.c:12\r\n"
                            "[    0.100008]     Expected 1 == 2, but\r\n"
                            "[    0.100009]     not ok 2 del\r\n"
                            "[    0.100010] # list: pass:1 fail:1 skip:0 total:2\r\n"
                            "[    0.100011] not ok 1 list\r\n"
                            "[    0.100012][    T1]     KTAP version 1\r\n"
                            "[    0.100013][    T1]     # Subtest: sums\r\n"
                            "[    0.100014][    T1]     1..1\r\n"
                            "[    0.100015][    T1]         KTAP version 1\r\n"
                            "[    0.100016][    T1]         # Subtest: sum\r\n"
                            "[    0.100017][    T1]         ok 1 small\r\n"
                            "[    0.100018][    T1]         ok 2 large\r\n"
                            "[    0.100019][    T1]     ok 1 sum\r\n"
                            "[    0.100020][    T1] ok 2 sums\r\n");
    CHECK(names(found) == "+list.add -list.del +sums.sum.small +sums.sum.large");
    CHECK(found[1].text.find("EXPECTATION FAILED") != std::string::npos);
    CHECK(found[1].text.find("Expected 1 == 2") != std::string::npos);
}

TEST_CASE("kselftest: a program's lines are marked, its version line may be missing") {
    const auto found = read("TAP version 13\n1..4\n"
                            "# timeout set to 45\n# selftests: timers: posix_timers\n"
                            "# TAP version 13\n# 1..2\n# ok 1 first clock\n# not ok 2 second clock\n"
                            "# # Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:0\n"
                            "not ok 1 selftests: timers: posix_timers # exit=1\n"
                            "# selftests: timers: nanosleep\n# 1..1\n# ok 1 all\n"
                            "ok 2 selftests: timers: nanosleep\n"
                            "# some text\nnot ok 3 selftests: timers: raw_skew # exit=1\n"
                            "ok 4 selftests: timers: leap # SKIP\n");
    CHECK(names(found) == "+timers.posix_timers.first clock -timers.posix_timers.second clock "
                          "+timers.nanosleep.all -timers.raw_skew stimers.leap");
    CHECK(found[3].text.find("exit=1") == 0);
    CHECK(found[3].text.find("some text") != std::string::npos);
}

TEST_CASE("a program that fails though its tests pass") {
    CHECK(names(read("TAP version 13\n1..1\n# 1..1\n# ok 1 inner\nnot ok 1 selftests: a: b # exit=139\n")) ==
          "+a.b.inner -a.b");
}

TEST_CASE("results that are missing are errors, with the reason") {
    const auto found = read("KTAP version 1\n1..3\nok 1 a\n    KTAP version 1\n    # Subtest: deep\n    1..2\n"
                            "    ok 1 x\n",
                            "the guest panicked");
    CHECK(names(found) == "+a +deep.x edeep.result 2 eresult 2 and later");
    CHECK(found[2].text.find("the guest panicked") != std::string::npos);
    CHECK(names(read("TAP version 13\n1..2\nok 1 a\nBail out! no memory\n")) == "+a ebail out eresult 2");
}

TEST_CASE("kselftest: a script that starts programs, each with a stream of its own") {
    const std::string both = "TAP version 13\n1..1\n# TAP version 13\n# 1..1\n# ok 1 requeue a\n# # Totals: pass:1\n"
                             "# TAP version 13\n# 1..2\n# ok 1 requeue b\n# ok 2 requeue c\n";
    CHECK(names(read(both + "ok 1 selftests: futex: run.sh\n")) ==
          "+futex.run.sh.requeue a +futex.run.sh.requeue b +futex.run.sh.requeue c");
    CHECK(names(read(both + "not ok 1 selftests: futex: run.sh # TIMEOUT 45 seconds\n")) ==
          "+futex.run.sh.requeue a +futex.run.sh.requeue b +futex.run.sh.requeue c efutex.run.sh");
}

TEST_CASE("results whose lines are torn are missing by their numbers") {
    CHECK(names(read("TAP version 13\n1..4\n.. too high ..not ok 1 a\n. not ok 2 b\nok 3 c\nok 4 d\n")) ==
          "+c +d eresult 1 and others");
    CHECK(names(read("TAP version 13\n1..3\nok 1 a\n...ok 2 b\nok 3 c\n")) == "+a +c eresult 2");
}

TEST_CASE("streams that follow each other, and text that only looks like a result") {
    CHECK(names(read("KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..1\nok 1 b\n")) == "+a +b");
    CHECK(names(read("KTAP version 1\n1..1\n      ok 7 days\nokay 1\nok x\nok 1x\nok 1 a # b\n")) == "+a");
    CHECK(names(read("KTAP version 1\nok 1\nnot ok 2\n")) == "+1 -2");
}

TEST_CASE("depth, length and number of results are bounded") {
    Ktap ktap;
    for (std::size_t i = 0; i < 1000; ++i)
        ktap.take(std::string(2 * i, ' ') + "KTAP version 1");
    for (std::size_t i = 0; i < 1000; ++i)
        ktap.take(std::string(100'000, 'x'));
    ktap.take("not ok 1 a");
    for (std::size_t i = 0; i < Ktap::most_results + 5; ++i)
        ktap.take("ok 2 b");
    ktap.finish();
    CHECK(ktap.results().size() == Ktap::most_results);
    CHECK(ktap.results()[0].text.size() <= Ktap::longest_text);
    CHECK(ktap.dropped() == 6);
}

} // namespace inox::ktap_test
