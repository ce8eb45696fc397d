// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/findings.hpp"

#include "tests/catch.hpp"
#include "vmm/instance/verdict/kernel_text.hpp"

namespace inox::verdict_findings_test {

namespace {

std::vector<Finding> found(std::initializer_list<std::string> patterns, std::string_view text, std::size_t piece = 7) {
    auto findings = Findings::create(std::vector<std::string>{patterns});
    REQUIRE(findings);
    for (auto rest = std::as_bytes(std::span{text}); !rest.empty();) {
        const auto part = rest.first(std::min(piece, rest.size()));
        (*findings)->feed(part);
        rest = rest.subspan(part.size());
    }
    (*findings)->finish();
    CHECK((*findings)->count() == (*findings)->list().size());
    return (*findings)->list();
}

std::string kind_of(std::string_view line) { return std::string{kernel_report(kernel_line(line).text).value_or("")}; }

} // namespace

TEST_CASE("a kernel's prefix is taken off, whatever stands before it") {
    for (const char* line : {"text", "[    0.123456] text", "<4>[   12.345678] text", "[12345.678901][   T77] text",
                             "[    1.000000][    C0] text", "login: [   99.000001] text"}) {
        INFO(line);
        CHECK(kernel_line(line).text == "text");
    }
    CHECK_FALSE(kernel_line("text").stamped);
    CHECK(kernel_line("[    0.123456] text").stamped);
    CHECK_FALSE(kernel_line("[ OK ] Started").stamped);
    CHECK(kernel_line("[1.2").text == "[1.2");
}

TEST_CASE("what init found in the kernel's counters is a failure, though its line has no time stamp") {
    const std::string line = "inox: kernel: 1 warnings, 0 oopses, tainted 512; first: WARNING: CPU: 0";
    const auto all =
        found({"kernel"}, "[    0.000000] Linux version 6.1\nWARNING: CPU: 0 at a program\n" + line + "\n");
    REQUIRE(all.size() == 1);
    CHECK((all[0].kind == "tainted" && all[0].line == 3 && all[0].text == line));
    CHECK(found({"kernel"}, "[    0.1] Linux\nsay inox: kernel: x tainted 1\n").empty());
}

TEST_CASE("reports of kernels are told apart by their first lines") {
    CHECK(kind_of("[    3.141592] BUG: kernel NULL pointer dereference, address: 0000000000000000") == "oops");
    CHECK(kind_of("[    3.141592] Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI") == "oops");
    CHECK(kind_of("[    3.141592] Oops: 0002 [#2] PREEMPT SMP NOPTI").empty());
    CHECK(kind_of("WARNING: CPU: 1 PID: 77 at lib/x.c:10 fn+0x1/0x2") == "warning");
    CHECK(kind_of("WARNING: kernel/x.c:12 at f, CPU#1: sh/1") == "warning");
    CHECK(kind_of("WARNING: Spectre v2 mitigation leaves CPU vulnerable").empty());
    CHECK(kind_of("BUG: KASAN: slab-use-after-free in f+0x12/0x34") == "KASAN");
    CHECK(kind_of("UBSAN: array-index-out-of-bounds in f.c:9:3") == "UBSAN");
    CHECK(kind_of("watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:123]") == "soft lockup");
    CHECK(kind_of("watchdog: Watchdog detected hard LOCKUP on cpu 1") == "hard lockup");
    CHECK(kind_of("rcu: INFO: rcu_preempt self-detected stall on CPU") == "RCU stall");
    CHECK(kind_of("INFO: task sh:77 blocked for more than 120 seconds.") == "hung task");
    CHECK(kind_of("BUG kmalloc-64 (Not tainted): Right Redzone overwritten") == "bug");
    CHECK(kind_of("[ BUG: bad unlock balance ]") == "bug");
    CHECK(kind_of("WARNING: possible circular locking dependency detected") == "lockdep");
    CHECK(kind_of("Kernel panic - not syncing: sysrq triggered crash") == "panic");
    CHECK(kind_of("---[ end Kernel panic - not syncing: sysrq triggered crash ]---").empty());
    for (const char* benign : {"DEBUG: x", "ODEBUG: selftest", "systemd[1]: BUG", "perf: interrupt took too long",
                               "INFO: NMI handler took too long", "EXT4-fs error"})
        CHECK(kind_of(benign).empty());
}

TEST_CASE("a report is one finding, with its line in the log, and what follows it is another") {
    const auto list = found({"kernel"}, "[    0.1] Linux version 6.12\r\n"
                                        "[    0.200000] kernel BUG at mm/slub.c:448!\r\n"
                                        "[    0.200001] Oops: invalid opcode: 0000 [#1] PREEMPT SMP\r\n"
                                        "[    0.200002] Call Trace:\r\n"
                                        "[    0.200003] ---[ end trace 0000000000000000 ]---\r\n"
                                        "[    0.300000] BUG: sleeping function called from invalid context at x.c:1\n"
                                        "[    0.300001] Call Trace:\n"
                                        "[    0.400000] Kernel panic - not syncing: Fatal exception\n");
    REQUIRE(list.size() == 3);
    CHECK(list[0].line == 2);
    CHECK(list[0].kind == "bug");
    CHECK(list[0].text == "[    0.200000] kernel BUG at mm/slub.c:448!");
    CHECK(list[1].line == 6);
    CHECK(list[2].kind == "panic");
}

TEST_CASE("a program that prints a kernel's words is believed only where the kernel has no time stamps") {
    CHECK(found({"kernel"}, "BUG: unable to handle x\n").size() == 1);
    CHECK(found({"kernel"}, "[    0.100000] hello\nBUG: unable to handle x\n").empty());
}

TEST_CASE("expressions, several at once, across terminal escapes and pieces") {
    const auto list = found({"^not ok", "FAIL$"}, "ok 1\nnot ok 2\n\x1b[1;31mFAIL\x1b[0m\nFAILED\nlast FAIL", 1);
    REQUIRE(list.size() == 3);
    CHECK(list[0].kind == "^not ok");
    CHECK(list[0].line == 2);
    CHECK(list[1].text == "FAIL");
    CHECK(list[2].line == 5);
    const std::vector<std::string> bad{"("};
    CHECK(Findings::create(bad).error().code == Errc::bad_option);
}

TEST_CASE("a guest that floods is counted in bounded memory") {
    const std::vector<std::string> patterns{"x"};
    auto findings = Findings::create(patterns);
    REQUIRE(findings);
    const std::string line = std::string(100'000, 'x') + "\n";
    for (int i = 0; i < 1000; ++i)
        (*findings)->feed(std::as_bytes(std::span{line}));
    CHECK((*findings)->count() == 1000);
    CHECK((*findings)->list().size() == Findings::most_kept);
    CHECK((*findings)->list()[0].text.size() == Findings::longest_line);
}

} // namespace inox::verdict_findings_test
