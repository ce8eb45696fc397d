// SPDX-License-Identifier: Apache-2.0
#include "tests/catch.hpp"
#include "vmm/machine/triple_fault.hpp"

namespace inox::machine_triple_fault_test {

TEST_CASE("a triple fault is told with the bytes at RIP, where they are in memory") {
    const auto known = triple_fault(3, FaultPlace{0x1000, {0x0f, 0x0b}}, false);
    CHECK(known.code == Errc::guest_triple_fault);
    CHECK(known.what == "vCPU 3 triple-faulted at RIP 0x1000, bytes: 0f 0b");
    CHECK(triple_fault(0, FaultPlace{0x1000, {}}, true).what ==
          "vCPU 0 triple-faulted at RIP 0x1000, bytes: not in guest memory");
    CHECK(triple_fault(0, std::nullopt, true).what == "vCPU 0 triple-faulted at unknown RIP");
}

TEST_CASE("where SVM reset the CPU, the reset vector is not taken for the place of the fault") {
    CHECK(triple_fault(0, FaultPlace{0xfff0, {}}, true).what.find("KVM on SVM reset the CPU") != std::string::npos);
    CHECK(triple_fault(0, FaultPlace{0xfff0, {}}, false).what.find("at RIP 0xfff0") != std::string::npos);
}

} // namespace inox::machine_triple_fault_test
