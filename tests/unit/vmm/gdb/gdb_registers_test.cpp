// SPDX-License-Identifier: Apache-2.0
#include "vmm/gdb/registers.hpp"

#include <cstring>

#include "tests/catch.hpp"
#include "vmm/gdb/packet.hpp"

namespace inox::gdb_registers_test {

using namespace gdb;

TEST_CASE("all registers survive being sent and taken back") {
    Registers before;
    // Values that differ in every byte and that a register can have.
    std::uint8_t next = 1;
    for (std::size_t i = 0; i < sizeof before.general; ++i)
        reinterpret_cast<std::uint8_t*>(&before.general)[i] = next++;
    before.special.cr0 = 0x80050033;
    before.special.cr3 = 0x123456789000;
    before.special.efer = 0xd01;
    before.special.gs.base = 0xffff888000000000;
    for (auto& one : before.fpu.xmm)
        for (auto& byte : one)
            byte = next++;
    for (auto& one : before.fpu.fpr)
        for (std::size_t i = 0; i < 10; ++i)
            one[i] = next++;
    before.fpu.fcw = 0x37f;
    before.fpu.ftwx = 0xa5;
    before.fpu.mxcsr = 0x1f80;
    for (auto& one : before.ymm_high)
        for (auto& byte : one)
            byte = std::byte{next++};
    Registers after;
    after.general.rflags = before.general.rflags; // its upper half is not sent
    REQUIRE(decode(*from_hex(encode(before)), after));
    CHECK(std::memcmp(&before.general, &after.general, sizeof before.general) == 0);
    CHECK(after.special.cr3 == before.special.cr3);
    CHECK(after.special.gs.base == before.special.gs.base);
    CHECK(after.fpu.ftwx == before.fpu.ftwx);
    CHECK(std::memcmp(before.fpu.fpr, after.fpu.fpr, sizeof before.fpu.fpr) == 0);
    CHECK(std::memcmp(before.fpu.xmm, after.fpu.xmm, sizeof before.fpu.xmm) == 0);
    CHECK(after.ymm_high == before.ymm_high);
}

TEST_CASE("the x87 tag word has two bits for each register") {
    Registers registers;
    registers.fpu.ftwx = 0b1000'0001; // the first and the last are in use
    constexpr std::uint64_t ftag = 16 + 1 + 1 + 6 + 9 + 8 + 2;
    CHECK(encode(registers, ftag) == "fc3f0000");
}

TEST_CASE("a segment's selector is shown and cannot be changed") {
    Registers registers;
    registers.special.cs.selector = 0x10;
    constexpr std::uint64_t cs = 18;
    CHECK(encode(registers, cs) == "10000000");
    CHECK(decode(cs, *from_hex("33000000"), registers));
    CHECK(registers.special.cs.selector == 0x10);
}

} // namespace inox::gdb_registers_test
