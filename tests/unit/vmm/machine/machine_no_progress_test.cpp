// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/no_progress.hpp"

#include "tests/catch.hpp"

namespace inox::machine_no_progress_test {

namespace {

bool uses(std::initializer_list<std::uint8_t> bytes) {
    return uses_descriptors(std::span{bytes.begin(), bytes.size()});
}

} // namespace

TEST_CASE("instructions that use descriptors are told from all others") {
    CHECK(uses({0x0f, 0x01, 0x18}));                      // lidt (%rax)
    CHECK(uses({0x0f, 0x01, 0x14, 0x25, 0, 0, 0, 0xd0})); // lgdt 0xd0000000
    CHECK(uses({0x66, 0x67, 0x0f, 0x01, 0x08}));          // sidt
    CHECK(uses({0x2e, 0x41, 0x0f, 0x00, 0xd8}));          // ltr
    CHECK(uses({0x8e, 0xd8}));                            // mov %eax, %ds
    CHECK(uses({0xea, 0, 0, 0, 0, 8, 0}));                // ljmp
    CHECK(uses({0x48, 0xff, 0x28}));                      // ljmp *(%rax)
    CHECK(uses({0x48, 0xcf}));                            // iretq
    CHECK_FALSE(uses({0x0f, 0x01, 0xf8}));                // swapgs
    CHECK_FALSE(uses({0x0f, 0x01, 0xd8}));                // vmrun
    CHECK_FALSE(uses({0x0f, 0x01, 0x38}));                // invlpg
    CHECK_FALSE(uses({0xeb, 0xfe}));                      // jmp to itself
    CHECK_FALSE(uses({0xf3, 0x90}));                      // pause
    CHECK_FALSE(uses({0xff, 0xe0}));                      // jmp *%rax
    CHECK_FALSE(uses({0xff, 0x20}));                      // jmp *(%rax)
    CHECK_FALSE(uses({0xf4}));                            // hlt
    CHECK_FALSE(uses({0x0f}));
    CHECK_FALSE(uses({0x66, 0x66}));
    CHECK_FALSE(uses({}));
}

TEST_CASE("the end of a guest at such an instruction names the place") {
    const std::uint8_t lidt[] = {0x0f, 0x01, 0x18};
    const auto error = no_progress(1, 0x100005, lidt);
    CHECK(error.code == Errc::guest_emulation_failure);
    CHECK(error.what.find("vCPU 1") != std::string::npos);
    CHECK(error.what.find("at RIP 0x100005 for ever, bytes: 0f 01 18") != std::string::npos);
}

} // namespace inox::machine_no_progress_test
