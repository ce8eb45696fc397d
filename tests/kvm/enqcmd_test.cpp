// SPDX-License-Identifier: Apache-2.0
// The instructions themselves, executed by a guest of our own on the real /dev/kvm. Needs a KVM that hands them out,
// which is one that interprets guest code.
#include "tests/catch.hpp"
#include "tests/fakes/process.hpp"
#include "vmm/kvm/vm.hpp"

using namespace std::chrono_literals;

TEST_CASE("two PASIDs with page tables of their own share an accelerator through ENQCMD") {
    if (!vmm::Kvm::interprets()) {
        WARN("this CPU runs guest code itself and lets ENQCMD fault: nothing to see here");
        return;
    }
    for (const char* cpus : {"1", "2"}) {
        const auto outcome = tests::run_process({INOX_PROGRAM, "run", "--kernel", std::string{INOX_GUESTS} + "/enqcmd",
                                                 "--memory", "16M", "--timeout", "60s", "--dsa", "--cpus", cpus});
        INFO(outcome.out << outcome.err);
        CHECK(outcome.code == 0);
        CHECK(outcome.out.find("all is well") != std::string::npos);
    }
}

TEST_CASE("without --dsa the instructions are what they were: KVM cannot emulate them") {
    if (!vmm::Kvm::interprets())
        return;
    const auto outcome =
        tests::run_process({INOX_PROGRAM, "run", "--kernel", std::string{INOX_GUESTS} + "/enqcmd_alone", "--memory",
                            "16M", "--timeout", "30s"});
    INFO(outcome.err);
    CHECK(outcome.code == 133);
    CHECK(outcome.err.find("f2 0f 38 f8 06") != std::string::npos);
}
