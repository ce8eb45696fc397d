// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/outcome.hpp"

#include "tests/catch.hpp"

namespace inox::outcome_test {
namespace {

using namespace inox::test;

Outcome of(const std::string& result, std::vector<CaseResult> cases = {}) {
    auto out = judge({.code = 1, .seconds = 2}, result, "");
    add_cases(std::move(cases), out);
    return out;
}

std::string ended(const std::string& code, const std::string& more = "") {
    return R"({"seconds":1.5,"guest_code":null,"error":{"code":")" + code + R"(","what":"it ended","hint":"h"})" +
           more + "}";
}

std::string found(const std::string& kind) {
    return R"(,"finding_count":1,"findings":[{"line":7,"kind":")" + kind + R"(","text":"[ 1.0] it"}])";
}

} // namespace

TEST_CASE("each end of a guest has its verdict and a code that bisect takes") {
    CHECK(of(R"({"seconds":1.5,"guest_code":0,"error":null})").code == 0);
    CHECK(of(R"({"seconds":1.5,"guest_code":null,"error":null})").verdict == Verdict::good);
    CHECK(of(ended("guest_panic")).code == 120);
    CHECK(of(ended("guest_triple_fault")).code == 120);
    CHECK(of(ended("guest_silent")).code == 121);
    CHECK(of(ended("guest_halted")).code == 121);
    CHECK(of(ended("timed_out")).code == 124);
    CHECK(of(ended("kvm_missing")).code == 125);
    CHECK(of(ended("disk_missing")).code == 125);
    CHECK(of(ended("expect_not_seen")).code == 1);
    CHECK(of(ended("guest_panic")).seconds == 1.5);
    CHECK(of(ended("kvm_missing")).details == std::vector<std::string>{"hint: h"});
}

TEST_CASE("a command's code is kept up to 119") {
    const auto code = [](int guest) {
        return of(R"({"guest_code":)" + std::to_string(guest) + R"(,"error":null})").code;
    };
    CHECK(code(1) == 1);
    CHECK(code(119) == 119);
    CHECK(code(120) == 119);
    CHECK(code(255) == 119);
    CHECK(of(R"({"guest_code":139,"error":null})").why.find("signal 11") != std::string::npos);
}

TEST_CASE("a report of the kernel outranks how the machine ended, but no worse end") {
    CHECK(of(ended("guest_findings", found("warning"))).code == 122);
    CHECK(of(ended("guest_findings", found("soft lockup"))).code == 121);
    CHECK(of(ended("timed_out", found("RCU stall"))).code == 121);
    CHECK(of(ended("timed_out", found("oops"))).code == 122);
    CHECK(of(ended("guest_panic", found("oops"))).code == 120);
    const auto both = of(R"({"guest_code":3,"error":null)" + found("oops") + "}");
    CHECK(both.code == 122);
    CHECK(both.why == "line 7 of the console, oops: [ 1.0] it");
}

TEST_CASE("a process that leaves no result tells why by its error line") {
    const auto missing = judge({.code = 115, .seconds = 0.1}, std::nullopt,
                               "inox: warning: x\ninox: error: there is no /dev/kvm [kvm_missing]\n  hint: see lab\n");
    CHECK(missing.code == 125);
    CHECK(missing.why == "there is no /dev/kvm [kvm_missing]");
    CHECK(missing.details == std::vector<std::string>{"hint: see lab"});
    CHECK(judge({.signal = 9}, std::nullopt, "").code == 125);
    CHECK(judge({.code = 1}, "no json", "").code == 125);
    CHECK(judge({.code = 124}, std::nullopt, "").code == 124);
    CHECK(judge({.code = 143, .interrupted = true}, ended("terminated"), "").why == "interrupted");
}

TEST_CASE("a test that fails makes a good end a failure, with code 1") {
    const std::vector<CaseResult> cases{
        {"a", Status::passed, ""}, {"b", Status::failed, "x"}, {"c", Status::error, ""}};
    const auto out = of(R"({"guest_code":0,"error":null})", cases);
    CHECK(out.code == 1);
    CHECK(out.why == "2 tests of 3 failed");
    CHECK(out.details == std::vector<std::string>{"not ok: b", "not ok: c"});
    CHECK(of(R"({"guest_code":4,"error":null})", cases).code == 4);
    CHECK(of(ended("guest_panic"), cases).code == 120);
    // Results that are missing because the time is over, or because nothing ran, do not hide that
    CHECK(of(ended("timed_out"), {{"a", Status::error, ""}}).code == 124);
    CHECK(of(ended("interrupted"), {{"a", Status::error, ""}}).code == 125);
    CHECK(of(R"({"guest_code":0,"error":null})", {{"s", Status::skipped, ""}}).code == 0);
}

TEST_CASE("of several machines the one that says most counts") {
    const auto with = [](Verdict verdict, int code) {
        Outcome out;
        out.verdict = verdict;
        out.code = code;
        return out;
    };
    CHECK(whole_code({with(Verdict::good, 0), with(Verdict::good, 0)}) == 0);
    CHECK(whole_code({with(Verdict::good, 0), with(Verdict::unable, 125), with(Verdict::failed, 3)}) == 3);
    CHECK(whole_code({with(Verdict::unable, 125), with(Verdict::good, 0)}) == 125);
    CHECK(whole_code({with(Verdict::timeout, 124), with(Verdict::panic, 120)}) == 120);
    CHECK(whole_code({}) == 125);
}

TEST_CASE("an outcome goes through JSON, and what is none is refused") {
    auto out = of(ended("guest_panic", found("oops")), {{"a", Status::failed, "why\n"}});
    out.folder = "/x";
    const auto back = read_outcome(outcome_json(out));
    REQUIRE(back);
    CHECK(outcome_json(*back) == outcome_json(out));
    CHECK_FALSE(read_outcome(""));
    CHECK_FALSE(read_outcome("{}"));
    CHECK_FALSE(read_outcome(
        R"({"verdict":77,"code":0,"why":"","details":[],"seconds":0,"dropped_cases":0,"folder":"","cases":[]})"));
}

} // namespace inox::outcome_test
