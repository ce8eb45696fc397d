// SPDX-License-Identifier: Apache-2.0
// A guest of our own executes the instructions on a real KVM. The test needs a KVM that hands them to user space: the
// lab's (tools/guest/inox_ud.c), or one that interprets guest code.
#include <cstdlib>

#include "tests/catch.hpp"
#include "tests/support/process.hpp"

TEST_CASE("two PASIDs with page tables of their own share an accelerator through ENQCMD") {
    for (const char* cpus : {"1", "2"}) {
        const auto outcome = tests::run_process({INOX_PROGRAM, "run", "--kernel", std::string{INOX_GUESTS} + "/enqcmd",
                                                 "--memory", "16M", "--timeout", "60s", "--dsa", "--cpus", cpus});
        INFO(outcome.out << outcome.err);
        CHECK(outcome.code == 0);
        CHECK(outcome.out.find("all is well") != std::string::npos);
        if (std::getenv("INOX_LAB") != nullptr) // an interpreting KVM hands them over in ring 0 only
            CHECK(outcome.out.find("is the CPU's own here") == std::string::npos);
    }
}

TEST_CASE("without --dsa the instructions are what they were: KVM cannot emulate them") {
    const auto outcome =
        tests::run_process({INOX_PROGRAM, "run", "--kernel", std::string{INOX_GUESTS} + "/enqcmd_alone", "--memory",
                            "16M", "--timeout", "30s"});
    INFO(outcome.err);
    CHECK(outcome.code == 133);
    CHECK(outcome.err.find("f2 0f 38 f8 06") != std::string::npos);
}
