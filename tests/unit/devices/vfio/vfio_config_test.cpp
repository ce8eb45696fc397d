// SPDX-License-Identifier: Apache-2.0
// Configuration space of an assigned device: which bytes the device answers for, and which inox.
#include "tests/catch.hpp"
#include "tests/fakes/assigned.hpp"

namespace inox::vfio_config_test {

using namespace devices;
using fakes::Assigned, fakes::DeviceBuilder, fakes::nvme;
using Writes = std::vector<fakes::FakeHostDevice::Access>;

namespace {

constexpr unsigned config = vfio::region_config;

std::vector<std::pair<unsigned, unsigned>> capabilities(Assigned& guest) {
    std::vector<std::pair<unsigned, unsigned>> found;
    for (unsigned at = guest.get<std::uint8_t>(0x34); at && found.size() < 48; at = guest.get<std::uint8_t>(at + 1))
        found.emplace_back(at, guest.get<std::uint8_t>(at));
    return found;
}

std::vector<std::pair<unsigned, unsigned>> extended(Assigned& guest) {
    std::vector<std::pair<unsigned, unsigned>> found;
    for (unsigned at = 0x100; at && found.size() < 960; at = guest.get<std::uint32_t>(at) >> 20)
        found.emplace_back(at, guest.get<std::uint32_t>(at) & 0xffff);
    return found;
}

} // namespace

TEST_CASE("the guest reads the device's identity, and registers that inox does not own from the device itself") {
    Assigned guest;
    CHECK(guest.get<std::uint32_t>(0) == 0x00101b36);
    CHECK(guest.get<std::uint32_t>(8) == 0x01080202);
    CHECK(guest.get<std::uint32_t>(0x2c) == 0x11001af4);
    CHECK(guest.get<std::uint16_t>(6) == 0x0010);
    guest.state->config<std::uint16_t>(6, 0x0018);
    CHECK(guest.get<std::uint16_t>(6) == 0x0018);
    CHECK(guest.get<std::uint32_t>(4) == 0x00180000);
    CHECK(guest.get<std::uint32_t>(0x104) == 0x5a5a5a5a);
    guest.state->config<std::uint8_t>(0xf3, 0x77);
    CHECK(guest.get<std::uint8_t>(0xf3) == 0x77);
}

TEST_CASE("writes to the device's own registers keep their width, and stop where inox's registers start") {
    Assigned guest;
    guest.state->take_config_writes();
    guest.set<std::uint8_t>(0x0c, 0x10);
    guest.set<std::uint16_t>(0x88, 0x2810);
    guest.set<std::uint32_t>(0x204, 0xcafe);
    CHECK(guest.state->take_config_writes() ==
          Writes{{config, 0x0c, 1, 0x10}, {config, 0x88, 2, 0x2810}, {config, 0x204, 4, 0xcafe}});
    // One access to the command register (inox's) and the status register (the device's, cleared by writing ones).
    guest.set<std::uint32_t>(0x04, 0xf900'0006);
    CHECK(guest.state->take_config_writes() == Writes{{config, 4, 2, 0x0006}, {config, 6, 2, 0xf900}});
    guest.set<std::uint32_t>(0x3c, 0xffffffff);
    CHECK(guest.state->take_config_writes() == Writes{{config, 0x3e, 2, 0xffff}});
    CHECK(guest.get<std::uint8_t>(0x3c) == 0xff);
    CHECK(guest.get<std::uint8_t>(0x3d) == 1);
}

TEST_CASE("decoding stays on at the device whatever the guest's command register says") {
    Assigned guest;
    CHECK(guest.state->get<std::uint16_t>(config, 4) == 0x0002);
    CHECK(guest.get<std::uint16_t>(4) == 0);
    guest.set<std::uint16_t>(4, 0xffff);
    CHECK(guest.get<std::uint16_t>(4) == 0x0547);
    CHECK(guest.state->get<std::uint16_t>(config, 4) == 0x0546);
    guest.set<std::uint16_t>(4, 0);
    CHECK(guest.state->get<std::uint16_t>(config, 4) == 0x0002);
}

TEST_CASE("identity, BARs, capability chain, MSI-X control and BIST are never written at the device") {
    Assigned guest;
    guest.state->take_config_writes();
    for (const unsigned at :
         {0x00U, 0x08U, 0x10U, 0x14U, 0x18U, 0x24U, 0x2cU, 0x30U, 0x34U, 0x38U, 0x44U, 0x48U, 0x100U, 0x200U})
        guest.set<std::uint32_t>(at, ~0U);
    guest.set<std::uint16_t>(0x0e, 0xffff);
    guest.set<std::uint16_t>(0x40, 0xffff);
    guest.set<std::uint16_t>(0x42, 0x3fff);
    guest.set<std::uint16_t>(0x82, 0xffff);
    CHECK(guest.state->take_config_writes().empty());
    CHECK(guest.get<std::uint32_t>(0x00) == 0x00101b36);
    CHECK(guest.get<std::uint16_t>(0x0e) == 0);
    CHECK(guest.get<std::uint8_t>(0x34) == 0x40);
    CHECK(guest.get<std::uint16_t>(0x42) == 64);
}

TEST_CASE("power state is inox's: the device stays awake") {
    Assigned guest;
    guest.state->take_config_writes();
    CHECK(guest.get<std::uint16_t>(0x62) == 0x0003);
    CHECK(guest.get<std::uint16_t>(0x64) == 0x0008);
    guest.set<std::uint16_t>(0x64, 0x8103);
    CHECK(guest.get<std::uint16_t>(0x64) == 0x000b);
    CHECK(guest.state->take_config_writes().empty());
}

TEST_CASE("on the root bus an express endpoint is an integrated one, without a link") {
    Assigned guest;
    CHECK(guest.get<std::uint16_t>(0x82) == 0x0092);
    CHECK(guest.get<std::uint32_t>(0x8c) == 0);
    guest.state->take_config_writes();
    guest.set<std::uint16_t>(0x90, 3);
    CHECK(guest.state->take_config_writes().empty());
    // Device control 2: latency reports and buffer flush keep their values; the status next to it is forwarded.
    guest.state->config<std::uint32_t>(0xa8, 0x0400);
    guest.set<std::uint32_t>(0xa8, 0x0001'f01f);
    CHECK(guest.state->take_config_writes() == Writes{{config, 0xa8, 4, 0x0001'941f}});
}

TEST_CASE("both chains lead past what a guest must not see") {
    Assigned guest;
    CHECK(capabilities(guest) == std::vector<std::pair<unsigned, unsigned>>{{0x40, 0x11}, {0x80, 0x10}, {0x60, 0x01}});
    CHECK(extended(guest) == std::vector<std::pair<unsigned, unsigned>>{{0x100, 0x01}, {0x200, 0x03}});
    // A hidden capability cannot be reached at its own address either.
    CHECK(guest.get<std::uint32_t>(0x150) == 0);
    CHECK(guest.get<std::uint32_t>(0x158) == 0);
    guest.state->take_config_writes();
    guest.set<std::uint16_t>(0x158, 1);
    CHECK(guest.state->take_config_writes().empty());
}

TEST_CASE("a chain whose first extended capability is hidden starts with a null capability") {
    DeviceBuilder builder;
    builder.extended(0x100, 0x0f, {1, 2, 3, 4});
    builder.extended(0x110, 0x0b, {1, 2, 3, 4});
    Assigned guest{builder};
    CHECK(extended(guest) == std::vector<std::pair<unsigned, unsigned>>{{0x100, 0}, {0x110, 0x0b}});
    CHECK(guest.get<std::uint32_t>(0x114) == 0x04030201);
}

TEST_CASE("an extended capability can be made up, in space that the device does not use") {
    vfio::FunctionOptions options;
    options.synthesised.push_back({.id = 0x1b,
                                   .version = 1,
                                   .body = std::vector<std::byte>(4, std::byte{0x14}),
                                   .writable = std::vector<std::byte>{std::byte{}, std::byte{}, std::byte{7}}});
    Assigned guest{nvme(), options};
    const auto chain = extended(guest);
    REQUIRE(chain.size() == 3);
    CHECK(chain.back().second == 0x1b);
    const auto at = chain.back().first;
    CHECK(at >= 0x20c);
    CHECK(guest.get<std::uint32_t>(at + 4) == 0x14141414);
    guest.state->take_config_writes();
    guest.set<std::uint16_t>(at + 6, 0xffff);
    CHECK(guest.get<std::uint16_t>(at + 6) == 0x1417);
    CHECK(guest.state->take_config_writes().empty());
}

TEST_CASE("capabilities of interrupts the host cannot wire are hidden") {
    auto builder = nvme();
    builder.interrupts(vfio::Interrupt::msix, 0);
    Assigned guest{builder};
    CHECK(capabilities(guest) == std::vector<std::pair<unsigned, unsigned>>{{0x80, 0x10}, {0x60, 0x01}});
}

TEST_CASE("chains that loop or lead nowhere end") {
    auto builder = nvme();
    builder.state->config<std::uint8_t>(0x61, 0x40);
    builder.state->config<std::uint32_t>(0x200, 0x10010003);
    Assigned guest{builder};
    CHECK(capabilities(guest).size() == 3);
    CHECK(extended(guest).size() == 2);

    DeviceBuilder at_the_end;
    at_the_end.capability(0xfc, 0x10);
    at_the_end.extended(0x100, 0x02);
    at_the_end.extended(0xffc, 0x10);
    Assigned other{at_the_end};
    CHECK(capabilities(other).size() == 1);
    CHECK(extended(other).size() == 1);
}

TEST_CASE("a function level reset by the guest reaches the device and takes the guest's state with it") {
    Assigned guest;
    guest.decode();
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(0);
    REQUIRE(guest.state->enabled(vfio::Interrupt::msix));
    guest.state->take_config_writes();
    guest.set<std::uint16_t>(0x88, 0x8000);
    CHECK(guest.state->take_config_writes() == Writes{{config, 0x88, 2, 0x8000}, {config, 4, 2, 2}});
    CHECK(guest.get<std::uint16_t>(4) == 0);
    CHECK(guest.get<std::uint16_t>(0x42) == 64);
    CHECK(guest.state->enabled(vfio::Interrupt::intx));
    CHECK(guest.mappings.slots->empty());
    guest.decode();
    CHECK(guest.bar_get<std::uint32_t>(0, 0x200c) == 1);
}

TEST_CASE("advanced features start a reset, too") {
    DeviceBuilder builder;
    builder.bar(0, 0x1000);
    builder.capability(0x40, 0x13, {6, 3, 0, 0});
    Assigned guest{builder};
    guest.decode();
    guest.set<std::uint8_t>(0x44, 0);
    CHECK(guest.get<std::uint16_t>(4) == 6);
    guest.set<std::uint8_t>(0x44, 1);
    CHECK(guest.get<std::uint16_t>(4) == 0);
    CHECK(guest.state->get<std::uint8_t>(config, 0x44) == 1);
}

TEST_CASE("a device with 256 bytes of configuration space has no more for the guest") {
    DeviceBuilder builder{256};
    builder.bar(0, 0x1000);
    Assigned guest{builder};
    CHECK(guest.get<std::uint32_t>(0x100) == 0xffffffff);
    guest.state->take_config_writes();
    guest.set<std::uint32_t>(0x100, 1);
    CHECK(guest.state->take_config_writes().empty());
}

TEST_CASE("a bridge, and a device that cannot be read, are refused with their name") {
    DeviceBuilder bridge;
    bridge.state->config<std::uint8_t>(0x0e, 1);
    Assigned one{bridge};
    REQUIRE(one.error);
    CHECK(one.error->code == Errc::unsupported);
    CHECK(one.error->what.find("vfio0 (0000:01:00.0)") != std::string::npos);
    DeviceBuilder gone;
    gone.state->gone = true;
    Assigned other{gone};
    REQUIRE(other.error);
    CHECK(other.error->code == Errc::host_error);
    CHECK(other.error->what.find("reads as ones") != std::string::npos);
    CHECK(!other.error->hint.empty());
    DeviceBuilder silent;
    silent.state->io_error = true;
    Assigned third{silent};
    REQUIRE(third.error);
    CHECK(third.error->code == Errc::host_error);
    CHECK(!third.error->hint.empty());
}

TEST_CASE("every byte of every width can be read and written, at any offset") {
    Assigned guest;
    for (unsigned at = 0; at < 4096; ++at) {
        guest.set<std::uint8_t>(at, static_cast<std::uint8_t>(at * 37));
        guest.set<std::uint64_t>(at, 0x0101010101010101ULL * (at & 0xff));
        (void)guest.get<std::uint64_t>(at);
        (void)guest.get<std::uint16_t>(at);
    }
    CHECK(guest.get<std::uint32_t>(0) == 0x00101b36);
    CHECK(!guest.function->failed());
}

} // namespace inox::vfio_config_test
