// SPDX-License-Identifier: Apache-2.0
#include "devices/cmos.hpp"

#include "tests/catch.hpp"
#include "tests/support/registers.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::devices_cmos_test {

namespace {

timespec now{};
timespec test_clock() { return now; }

struct Chip {
    explicit Chip(std::uint64_t below = 128 * MiB, std::uint64_t above = 0) : cmos{below, above, test_clock} {}
    devices::Cmos cmos;
    std::uint8_t get(std::uint8_t index) {
        tests::out(cmos, 0, index);
        return tests::in(cmos, 1);
    }
    void put(std::uint8_t index, std::uint8_t value) {
        tests::out(cmos, 0, index);
        tests::out(cmos, 1, value);
    }
    unsigned get16(std::uint8_t index) { return get(index) + get(static_cast<std::uint8_t>(index + 1)) * 256U; }
};

} // namespace

TEST_CASE("the clock shows the host's time in BCD, 24 hours") {
    now = {.tv_sec = 1'709'251'199, .tv_nsec = 0}; // Thursday 2024-02-29 23:59:59 UTC
    Chip chip;
    CHECK(chip.get(0x00) == 0x59);
    CHECK(chip.get(0x02) == 0x59);
    CHECK(chip.get(0x04) == 0x23);
    CHECK(chip.get(0x06) == 5);
    CHECK(chip.get(0x07) == 0x29);
    CHECK(chip.get(0x08) == 0x02);
    CHECK(chip.get(0x09) == 0x24);
    CHECK(chip.get(0x32) == 0x20);
    CHECK(chip.get(0x0b) == 0x02);
    CHECK(chip.get(0x0d) == 0x80);
    CHECK(chip.get(0x80 | 0x0d) == 0x80); // bit 7 is the NMI mask
}

TEST_CASE("register B selects binary and twelve hours") {
    now = {.tv_sec = 1'709'251'199, .tv_nsec = 0};
    Chip chip;
    chip.put(0x0b, 0x06);
    CHECK(chip.get(0x00) == 59);
    CHECK(chip.get(0x04) == 23);
    chip.put(0x0b, 0x00);
    CHECK(chip.get(0x04) == (0x80 | 0x11));
    now.tv_sec += 1; // midnight
    CHECK(chip.get(0x04) == 0x12);
}

TEST_CASE("the guest cannot set the clock, whatever it writes") {
    now = {.tv_sec = 1'709'251'199, .tv_nsec = 0};
    Chip chip;
    chip.put(0x0b, 0x82);
    chip.put(0x00, 0x11);
    chip.put(0x0a, 0xff);
    CHECK(chip.get(0x00) == 0x59);
    CHECK((chip.get(0x0a) & 0x80) == 0);
}

TEST_CASE("an update shows for a quarter of a millisecond before the second turns, and never longer") {
    Chip chip;
    now = {.tv_sec = 100, .tv_nsec = 999'700'000};
    CHECK((chip.get(0x0a) & 0x80) == 0);
    now.tv_nsec = 999'800'000;
    CHECK((chip.get(0x0a) & 0x80) != 0);
    now = {.tv_sec = 101, .tv_nsec = 0};
    CHECK((chip.get(0x0a) & 0x80) == 0);
}

TEST_CASE("the memory size registers agree with the RAM") {
    Chip small{128 * MiB, 0};
    CHECK(small.get16(0x15) == 640);
    CHECK(small.get16(0x17) == 0xffff);
    CHECK(small.get16(0x30) == 0xffff);
    CHECK(small.get16(0x34) == (128 - 16) * 16);
    CHECK(small.get16(0x5b) == 0);
    Chip large{3 * GiB, 5 * GiB};
    CHECK(large.get16(0x34) == (3 * 1024 - 16) * 16);
    CHECK((large.get16(0x5b) + large.get(0x5d) * 65536U) == 5 * 1024 * 16);
    Chip tiny{2 * MiB, 0};
    CHECK(tiny.get16(0x17) == 1024);
    CHECK(tiny.get16(0x34) == 0);
}

TEST_CASE("other registers are memory, and wide accesses reach index and data") {
    Chip chip;
    chip.put(0x0f, 0x0a);
    CHECK(chip.get(0x0f) == 0x0a);
    tests::out<std::uint16_t>(chip.cmos, 0, 0x5a0e);
    CHECK(chip.get(0x0e) == 0x5a);
    CHECK(tests::in(chip.cmos, 0) == 0xff);
}

} // namespace inox::devices_cmos_test
