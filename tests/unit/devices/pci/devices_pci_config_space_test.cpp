// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/config_space.hpp"

#include <thread>

#include "tests/catch.hpp"

namespace inox::devices_pci_config_space_test {

using namespace devices::pci;

namespace {

constexpr Identity identity{.vendor = 0x8086,
                            .device = 0x0b25,
                            .class_code = 0x088000,
                            .revision = 3,
                            .subsystem_vendor = 0x1234,
                            .subsystem = 0x5678};

template <std::unsigned_integral T> T read(const ConfigSpace& config, unsigned offset) {
    std::array<std::byte, sizeof(T)> bytes{};
    config.read(offset, bytes);
    return load_le<T>(bytes);
}
template <std::unsigned_integral T> void write(ConfigSpace& config, unsigned offset, std::type_identity_t<T> value) {
    std::array<std::byte, sizeof(T)> bytes{};
    store_le(bytes, value);
    config.write(offset, bytes);
}

/// Like Linux's __pci_read_base: turns decoding off, writes ones, reads back, restores.
std::uint32_t size_register(ConfigSpace& config, unsigned offset) {
    const auto saved = read<std::uint32_t>(config, offset);
    write<std::uint32_t>(config, offset, 0xffffffff);
    const auto mask = read<std::uint32_t>(config, offset);
    write<std::uint32_t>(config, offset, saved);
    CHECK(read<std::uint32_t>(config, offset) == saved);
    return mask;
}

std::array<std::byte, 4> bytes4(std::uint32_t value) {
    std::array<std::byte, 4> bytes{};
    store_le(bytes, value);
    return bytes;
}

} // namespace

TEST_CASE("the header identifies the function and the guest cannot change it") {
    ConfigSpace config{identity};
    for (unsigned offset = 0; offset < ConfigSpace::express; offset += 4)
        write<std::uint32_t>(config, offset, 0xffffffff);
    CHECK(read<std::uint32_t>(config, 0x00) == 0x0b258086);
    CHECK(read<std::uint32_t>(config, 0x08) == 0x08800003);
    CHECK(read<std::uint8_t>(config, 0x0e) == 0);
    CHECK(read<std::uint32_t>(config, 0x2c) == 0x56781234);
    CHECK(read<std::uint16_t>(config, reg::status) == 0);
    CHECK(read<std::uint16_t>(config, reg::command) == 0x0547);
    CHECK(read<std::uint8_t>(config, reg::interrupt_line) == 0xff);
    CHECK(read<std::uint8_t>(config, reg::interrupt_pin) == 0);
    CHECK(read<std::uint32_t>(config, reg::bar0) == 0);
    CHECK(read<std::uint32_t>(config, reg::expansion_rom) == 0);
}

TEST_CASE("a driver finds the size and kind of every BAR as Linux does") {
    ConfigSpace config{identity};
    REQUIRE(config.add_bar(0, {.kind = BarKind::memory32, .size = 16 * KiB}));
    REQUIRE(config.add_bar(1, {.kind = BarKind::io, .size = 32}));
    REQUIRE(config.add_bar(2, {.kind = BarKind::memory64, .size = 8 * GiB, .prefetchable = true}));
    REQUIRE(config.add_bar(4, {.kind = BarKind::memory64, .size = 64 * KiB}));
    REQUIRE(config.add_bar(rom_bar, {.kind = BarKind::memory32, .size = 128 * KiB}));
    CHECK(size_register(config, 0x10) == 0xffffc000);
    CHECK(size_register(config, 0x14) == 0xffffffe1);
    CHECK(size_register(config, 0x18) == 0x0000000c);
    CHECK(size_register(config, 0x1c) == 0xfffffffe);
    CHECK(size_register(config, 0x20) == 0xffff0004);
    CHECK(size_register(config, 0x24) == 0xffffffff);
    CHECK(size_register(config, 0x30) == 0xfffe0001);
}

TEST_CASE("a BAR keeps the address the guest programs, aligned to its size") {
    ConfigSpace config{identity};
    REQUIRE(config.add_bar(2, {.kind = BarKind::memory64, .size = MiB}));
    write<std::uint32_t>(config, 0x18, 0xc2345678);
    write<std::uint32_t>(config, 0x1c, 0x00000041);
    CHECK(config.bar_address(2) == 0x41c2300000);
    config.set_bar_address(2, 0x4000100000);
    CHECK(read<std::uint32_t>(config, 0x18) == 0x00100004);
    CHECK(read<std::uint32_t>(config, 0x1c) == 0x40);
    CHECK_FALSE(config.bar_decoded(2));
    write<std::uint16_t>(config, reg::command, command_bit::memory);
    CHECK(config.bar_decoded(2));
}

TEST_CASE("the ROM responds only when both its own and the memory enable bit are set") {
    ConfigSpace config{identity};
    REQUIRE(config.add_bar(rom_bar, {.kind = BarKind::memory32, .size = 64 * KiB}));
    write<std::uint32_t>(config, reg::expansion_rom, 0xc2000001);
    CHECK_FALSE(config.bar_decoded(rom_bar));
    write<std::uint16_t>(config, reg::command, command_bit::memory);
    CHECK(config.bar_decoded(rom_bar));
    CHECK(config.bar_address(rom_bar) == 0xc2000000);
    write<std::uint32_t>(config, reg::expansion_rom, 0xc2000000);
    CHECK_FALSE(config.bar_decoded(rom_bar));
}

TEST_CASE("a BAR that cannot exist is refused") {
    ConfigSpace config{identity};
    CHECK_FALSE(config.add_bar(0, {.kind = BarKind::memory32, .size = 3 * KiB}));
    CHECK_FALSE(config.add_bar(0, {.kind = BarKind::memory32, .size = 0}));
    CHECK_FALSE(config.add_bar(0, {.kind = BarKind::memory32, .size = 4 * GiB}));
    CHECK_FALSE(config.add_bar(0, {.kind = BarKind::io, .size = 512}));
    CHECK_FALSE(config.add_bar(5, {.kind = BarKind::memory64, .size = MiB}));
    CHECK_FALSE(config.add_bar(7, {.kind = BarKind::memory32, .size = MiB}));
    CHECK_FALSE(config.add_bar(rom_bar, {.kind = BarKind::io, .size = 64}));
    REQUIRE(config.add_bar(1, {.kind = BarKind::memory64, .size = MiB}));
    CHECK_FALSE(config.add_bar(1, {.kind = BarKind::memory32, .size = MiB}));
    CHECK_FALSE(config.add_bar(2, {.kind = BarKind::memory32, .size = MiB}));
    CHECK_FALSE(config.add_bar(0, {.kind = BarKind::memory64, .size = MiB}));
}

TEST_CASE("capabilities form a chain in the order they were added") {
    ConfigSpace config{identity};
    CHECK((read<std::uint16_t>(config, reg::status) & 0x10) == 0);
    CHECK(config.add_capability(0x09, std::array<std::byte, 14>{}).value() == 0x40);
    const auto body = bytes4(0x11223344);
    const auto mask = bytes4(0x0000ff00);
    const auto second = config.add_capability(0x05, body, mask).value();
    CHECK(second == 0x50);
    CHECK((read<std::uint16_t>(config, reg::status) & 0x10) != 0);
    CHECK(read<std::uint8_t>(config, reg::capabilities) == 0x40);
    CHECK(read<std::uint16_t>(config, 0x40) == 0x5009);
    CHECK(read<std::uint16_t>(config, second) == 0x0005);
    write<std::uint32_t>(config, second + 2, 0xffffffff);
    CHECK(read<std::uint32_t>(config, second + 2) == 0x1122ff44);
}

TEST_CASE("extended capabilities start at 0x100 and form a chain") {
    ConfigSpace config{identity};
    CHECK(read<std::uint32_t>(config, 0x100) == 0);
    CHECK(config.add_extended_capability(0x001b, 1, bytes4(0x1402)).value() == 0x100);
    CHECK(config.add_extended_capability(0x000f, 1, bytes4(0x60), bytes4(0xffff0000)).value() == 0x108);
    CHECK(read<std::uint32_t>(config, 0x100) == 0x1081001b);
    CHECK(read<std::uint32_t>(config, 0x108) == 0x0001000f);
    write<std::uint32_t>(config, 0x10c, 0x80000001);
    CHECK(read<std::uint32_t>(config, 0x10c) == 0x80000060);
}

TEST_CASE("capabilities keep off reserved bytes and end where the space ends") {
    ConfigSpace config{identity, ConfigSpace::conventional};
    config.reserve(0x50, 0x10);
    CHECK(config.add_capability(0x09, std::array<std::byte, 30>{}).value() == 0x60);
    CHECK(config.add_capability(0x05, std::array<std::byte, 14>{}).value() == 0x40);
    CHECK_FALSE(config.add_capability(0x11, std::array<std::byte, 200>{}));
    CHECK_FALSE(config.add_extended_capability(0x1b, 1, bytes4(0)));
}

TEST_CASE("a watcher hears of every write that touches its bytes, and of no other") {
    ConfigSpace config{identity};
    unsigned heard = 0;
    config.watch(0x42, 2, [&] { ++heard; });
    write<std::uint16_t>(config, 0x40, 0);
    write<std::uint32_t>(config, 0x44, 0);
    CHECK(heard == 0);
    write<std::uint32_t>(config, 0x40, 0);
    write<std::uint8_t>(config, 0x43, 0);
    CHECK(heard == 2);
}

TEST_CASE("the interrupt status bit shows a change made by the device") {
    ConfigSpace config{identity};
    config.set_interrupt_status(true);
    CHECK(read<std::uint16_t>(config, reg::status) == 0x0008);
    CHECK(read<std::uint32_t>(config, reg::command) == 0x00080000);
    config.set_interrupt_status(false);
    CHECK(read<std::uint16_t>(config, reg::status) == 0);
}

TEST_CASE("odd offsets and widths read and write byte by byte, and ones beyond the end") {
    ConfigSpace config{identity, ConfigSpace::conventional};
    CHECK(read<std::uint16_t>(config, 0x01) == 0x2580);
    CHECK(read<std::uint64_t>(config, 0x00) == 0x0000'0000'0b25'8086);
    CHECK(read<std::uint32_t>(config, 0xfe) == 0xffff0000);
    CHECK(read<std::uint32_t>(config, 0x100) == 0xffffffff);
    write<std::uint64_t>(config, 0xfc, 0xffffffffffffffff);
    write<std::uint16_t>(config, 0x03, 0x0400 | 0xff);
    CHECK(read<std::uint16_t>(config, reg::command) == 0x0004);
}

TEST_CASE("the command register may be read while processors write configuration space") {
    ConfigSpace config{identity};
    std::jthread processor{[&] {
        for (unsigned i = 0; i < 10'000; ++i)
            write<std::uint16_t>(config, reg::command, i % 2 ? command_bit::intx_disable : 0);
    }};
    for (unsigned i = 0; i < 10'000; ++i)
        CHECK((config.command() & ~command_bit::intx_disable) == 0);
    processor.join();
    CHECK(config.command() == command_bit::intx_disable);
    config.set<std::uint16_t>(reg::command, 0);
    CHECK(config.command() == 0);
}

} // namespace inox::devices_pci_config_space_test
