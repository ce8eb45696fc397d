// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/report.hpp"

#include "tests/catch.hpp"
#include "vmm/test/ktap.hpp"

namespace inox::report_test {
namespace {

using namespace inox::test;

Done done(Verdict verdict, std::vector<CaseResult> cases = {}) {
    Done out;
    out.machine.kernel = {"/boot/bzImage", "", "6.12"};
    out.machine.cpus = "2";
    out.command = "true";
    out.repeat = "inox test --kernel 6.12 -- true";
    out.outcome.verdict = verdict;
    out.outcome.why = "because of \x1b[31m<this> & \"that\"";
    out.outcome.seconds = 1.25;
    out.outcome.cases = std::move(cases);
    return out;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

} // namespace

TEST_CASE("text in XML has nothing that XML forbids") {
    CHECK(xml_text("a<b>&\"c\"") == "a&lt;b&gt;&amp;&quot;c&quot;");
    CHECK(xml_text("\x1b[1mx\r\n") == "\xef\xbf\xbd[1mx\n");
    CHECK(xml_text("\xc3\xa4 \xff \xed\xa0\x80 \xf4\x90\x80\x80 \xef\xbf\xbf \xc0\x80") ==
          "\xc3\xa4 \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
          "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd");
    CHECK(xml_text(std::string_view{"\0", 1}) == "\xef\xbf\xbd");
    CHECK(xml_text("\xe2\x82") == "\xef\xbf\xbd\xef\xbf\xbd");
}

TEST_CASE("JUnit: a suite for each machine, what the guest's tests say is not told twice") {
    const std::vector<Done> all{
        done(Verdict::good, {{"a.b", Status::passed, ""}, {"a.c", Status::skipped, "SKIP no device"}}),
        done(Verdict::failed, {{"a.b", Status::failed, "exit=1\nmore"}, {"a.c", Status::error, "TIMEOUT"}}),
        done(Verdict::panic)};
    const auto xml = junit_xml(all, 3);
    INFO(xml);
    CHECK(has(xml, R"(<testsuites name="inox test" tests="7" failures="1" errors="2" skipped="1" time="3.000">)"));
    CHECK(has(xml, R"(<testcase classname="6.12, 2 CPUs" name="a.b" time="0.000"/>)"));
    CHECK(has(xml, R"(<skipped message="SKIP no device"/>)"));
    CHECK(has(xml, "<failure message=\"exit=1\">exit=1\nmore</failure>"));
    CHECK(has(xml, "<error message=\"because of \xef\xbf\xbd[31m&lt;this&gt; &amp; &quot;that&quot;\">"));
    CHECK(has(xml, R"(<property name="repeat" value="inox test --kernel 6.12 -- true"/>)"));
}

TEST_CASE("our TAP is read by our own reader") {
    const std::vector<Done> all{
        done(Verdict::good, {{"a.b", Status::passed, ""}, {"a # c", Status::skipped, "SKIP x"}}), done(Verdict::panic)};
    const auto tap = tap_text(all);
    INFO(tap);
    Ktap reader;
    for (std::size_t at = 0; at < tap.size();) {
        const auto end = tap.find('\n', at);
        reader.take(std::string_view{tap}.substr(at, end - at));
        at = end + 1;
    }
    reader.finish();
    const auto& results = reader.results();
    REQUIRE(results.size() == 3);
    CHECK(results[0].name == "6.12, 2 CPUs.a.b");
    CHECK(results[1].status == Status::skipped);
    CHECK(results[2].status == Status::failed);
    CHECK_FALSE(has(tap, "\x1b"));
}

TEST_CASE("what people read has no escape sequence of a guest") {
    auto bad = done(Verdict::panic);
    bad.log_tail = "last \x1b]0;title\x07 words\n";
    bad.outcome.details = {"vCPU 0: \x1b[2J"};
    const auto text = verdict_text(bad);
    CHECK_FALSE(has(text, "\x1b"));
    CHECK_FALSE(has(text, "\x07"));
    CHECK(has(text, "inox test: 6.12, 2 CPUs: panic after 1.2 s\n"));
    CHECK(has(text, "  repeat: inox test --kernel 6.12 -- true\n"));
    const auto table = table_text(std::vector{done(Verdict::good), bad}, 9);
    CHECK(has(table, "inox test: 1 of 2 machines are good, 9.0 s\n"));
}

} // namespace inox::report_test
