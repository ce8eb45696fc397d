// SPDX-License-Identifier: Apache-2.0
// Interrupts of an assigned device, from its registers to the eventfds that the host gets.
#include "tests/catch.hpp"
#include "tests/fakes/assigned.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/support/log_capture.hpp"

namespace inox::vfio_interrupts_test {

using namespace devices;
using namespace devices::vfio;
using fakes::Assigned, fakes::DeviceBuilder, fakes::nvme;
using Calls = std::vector<std::string>;

namespace {

/// A device with INTx and with MSI at 0x50: 8 vectors, 64-bit, maskable.
DeviceBuilder with_msi(std::uint16_t control = 0x0186) {
    DeviceBuilder builder;
    builder.bar(0, 0x1000);
    builder.interrupts(Interrupt::intx, 1);
    builder.msi(0x50, 8, control);
    return builder;
}

void program(Assigned& guest, unsigned data, unsigned data_at = 0x5c) {
    guest.set<std::uint32_t>(0x54, 0xfee02000);
    guest.set<std::uint16_t>(data_at, static_cast<std::uint16_t>(data));
}

} // namespace

TEST_CASE("INTx goes to the slot's line from the start, and its end of interrupt unmasks it at the host") {
    Assigned guest;
    REQUIRE(guest.irqs.lines.size() == 1);
    const auto& line = *guest.irqs.lines[0];
    CHECK(line.gsi == pci::intx_gsi(guest.address.slot, 1));
    CHECK(line.mode == TriggerMode::level);
    CHECK(guest.state->wired.at(Interrupt::intx) == std::vector<int>{line.trigger.fd()});
    CHECK(guest.state->unmask == line.resample.fd());
    CHECK(guest.get<std::uint8_t>(0x3c) == line.gsi);
    // The device has its own bit to disable INTx.
    guest.set<std::uint16_t>(4, 0x0402);
    CHECK(guest.state->get<std::uint16_t>(region_config, 4) == 0x0402);
}

TEST_CASE("a device without INTx gets no line") {
    DeviceBuilder builder;
    builder.state->config<std::uint8_t>(0x3d, 1); // a pin that the host cannot wire
    Assigned guest{builder};
    CHECK(guest.irqs.lines.empty());
    CHECK(guest.get<std::uint8_t>(0x3d) == 0);
    CHECK_FALSE(guest.state->enabled(Interrupt::intx));
}

TEST_CASE("MSI-X vectors are set aside at the host one by one where it can add them") {
    Assigned guest;
    guest.decode();
    guest.state->calls.clear();
    guest.set<std::uint16_t>(0x42, 0xc000);
    CHECK(guest.state->calls == Calls{"disable intx", "enable msix 0+1"});
    CHECK(guest.state->wired.at(Interrupt::msix) == std::vector<int>{-1});
    guest.unmask(3);
    guest.set<std::uint16_t>(0x42, 0x8000);
    CHECK(guest.state->calls.back() == "enable msix 3+1");
    REQUIRE(guest.irqs.vectors.size() == 1);
    CHECK(guest.state->wired.at(Interrupt::msix) == std::vector<int>{-1, -1, -1, guest.irqs.vectors[0]->trigger.fd()});
    CHECK(guest.irqs.vectors[0]->message == MsiMessage{0xfee01000, 0x43});
    // Masking and unmasking again makes no call to the host.
    const auto calls = guest.state->calls.size();
    guest.bar_set<std::uint32_t>(0, 0x203c, 1);
    guest.bar_set<std::uint32_t>(0, 0x203c, 0);
    CHECK(guest.state->calls.size() == calls);
    guest.set<std::uint16_t>(0x42, 0);
    CHECK(guest.state->enabled(Interrupt::intx));
    CHECK(!guest.state->enabled(Interrupt::msix));
}

TEST_CASE("of a host that cannot add vectors the whole table is asked for at once") {
    Assigned guest{nvme(65, false)};
    guest.decode();
    guest.state->calls.clear();
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(0);
    guest.unmask(64);
    CHECK(guest.state->calls == Calls{"disable intx", "enable msix 0+65", "enable msix 0+1", "enable msix 64+1"});
}

TEST_CASE("a host with too few vectors gives those in use, and later ones by starting over") {
    auto builder = nvme(65, false);
    builder.state->vectors_left = 16;
    Assigned guest{builder};
    guest.decode();
    guest.unmask(1);
    guest.state->calls.clear();
    guest.set<std::uint16_t>(0x42, 0x8000);
    CHECK(guest.state->calls == Calls{"disable intx", "enable msix 0+2"});
    guest.unmask(7);
    CHECK(guest.state->calls.back() == "enable msix 0+8");
    CHECK(guest.state->wired.at(Interrupt::msix)[1] >= 0);
    guest.unmask(40); // more than the host has: it stays silent and damages no other register
    CHECK(guest.bar_get<std::uint32_t>(0, 0x2000 + 40 * 16 + 8) == 0x68);
}

TEST_CASE("what a masked vector signals is pending, and delivered once when it is unmasked") {
    Assigned guest;
    guest.decode();
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(2);
    guest.bar_set<std::uint32_t>(0, 0x202c, 1);
    guest.signal(Interrupt::msix, 2);
    guest.signal(Interrupt::msix, 2);
    CHECK(guest.bar_get<std::uint64_t>(0, 0x3000) == 4);
    CHECK(guest.irqs.vectors[0]->delivered.empty());
    guest.bar_set<std::uint32_t>(0, 0x202c, 0);
    CHECK(guest.irqs.vectors[0]->delivered.size() == 1);
    CHECK(guest.bar_get<std::uint64_t>(0, 0x3000) == 0);
}

TEST_CASE("MSI: as many vectors as the guest asks for, the low bits of the data choose") {
    Assigned guest{with_msi()};
    CHECK(guest.get<std::uint16_t>(0x52) == 0x0186);
    program(guest, 0x57);
    guest.state->calls.clear();
    guest.set<std::uint16_t>(0x52, 0x0021);
    CHECK(guest.get<std::uint16_t>(0x52) == 0x01a7);
    CHECK(guest.state->calls == Calls{"disable intx", "enable msi 0+4"});
    REQUIRE(guest.irqs.vectors.size() == 4);
    for (unsigned index = 0; index < 4; ++index) {
        CHECK(guest.irqs.vectors[index]->message == MsiMessage{0xfee02000, 0x54 + index});
        CHECK(guest.irqs.vectors[index]->enabled);
        CHECK(guest.state->wired.at(Interrupt::msi)[index] == guest.irqs.vectors[index]->trigger.fd());
    }
    // A new target makes no call to the host.
    guest.set<std::uint32_t>(0x54, 0xfee03000);
    CHECK(guest.irqs.vectors[2]->message.address == 0xfee03000);
    CHECK(guest.state->calls.size() == 2);
    guest.set<std::uint16_t>(0x52, 0x0000);
    CHECK(guest.state->enabled(Interrupt::intx));
    CHECK(!guest.irqs.vectors[0]->enabled);
}

TEST_CASE("MSI: no more vectors than the device has, whatever the guest writes") {
    Assigned guest{with_msi()};
    program(guest, 0);
    guest.set<std::uint16_t>(0x52, 0x0071);
    CHECK(guest.state->wired.at(Interrupt::msi).size() == 8);
}

TEST_CASE(
    "MSI: a masked vector's signals are pending and delivered once; without mask bits the registers are shorter") {
    Assigned guest{with_msi()};
    program(guest, 0x40);
    guest.set<std::uint32_t>(0x60, 0xffffffff);
    CHECK(guest.get<std::uint32_t>(0x60) == 0xff);
    guest.set<std::uint16_t>(0x52, 0x0011);
    guest.signal(Interrupt::msi, 1);
    CHECK(guest.get<std::uint32_t>(0x64) == 2);
    guest.set<std::uint32_t>(0x60, 0);
    CHECK(guest.irqs.vectors[1]->delivered.size() == 1);
    CHECK(guest.get<std::uint32_t>(0x64) == 0);

    auto builder = with_msi(0x0000); // 32-bit address, one vector, no mask
    builder.state->config<std::uint16_t>(0x5a, 0x7777);
    Assigned narrow{builder};
    program(narrow, 0x41, 0x58);
    narrow.set<std::uint16_t>(0x52, 0x0071);
    CHECK(narrow.state->wired.at(Interrupt::msi).size() == 1);
    CHECK(narrow.irqs.vectors[0]->message == MsiMessage{0xfee02000, 0x41});
    CHECK(narrow.get<std::uint16_t>(0x5a) == 0x7777); // this byte belongs to the device
}

TEST_CASE("MSI directed at memory is never an interrupt, nor is it a write") {
    Assigned guest{with_msi()};
    guest.set<std::uint32_t>(0x54, 0x100000);
    guest.set<std::uint16_t>(0x52, 0x0001);
    CHECK(guest.irqs.vectors.empty());
    CHECK(guest.state->wired.at(Interrupt::msi) == std::vector<int>{-1});
}

TEST_CASE("MSI without an address, as Linux leaves it when it frees an interrupt, is nothing to warn of") {
    Assigned guest{with_msi()};
    const tests::LogCapture log;
    guest.set<std::uint16_t>(0x52, 0x0001);
    CHECK(log.text() == "");
    guest.set<std::uint32_t>(0x54, 0x100000);
    CHECK(log.text().find("MSI vector 0 delivers no interrupts") != std::string::npos);
}

TEST_CASE("MSI and MSI-X at once: MSI-X wins, and MSI comes back after it") {
    auto builder = nvme(4);
    builder.msi(0xd0, 2, 0x0080);
    Assigned guest{builder};
    guest.decode();
    guest.set<std::uint32_t>(0xd4, 0xfee02000);
    guest.set<std::uint16_t>(0xdc, 0x60);
    guest.set<std::uint16_t>(0xd2, 1);
    CHECK(guest.state->enabled(Interrupt::msi));
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(0);
    CHECK(guest.state->enabled(Interrupt::msix));
    CHECK(!guest.state->enabled(Interrupt::msi));
    guest.set<std::uint16_t>(0xd2, 0);
    guest.set<std::uint16_t>(0xd2, 1);
    CHECK(guest.state->enabled(Interrupt::msix));
    guest.set<std::uint16_t>(0x42, 0);
    CHECK(guest.state->enabled(Interrupt::msi));
    CHECK(guest.state->enabled(Interrupt::msi));
    guest.set<std::uint16_t>(0xd2, 0);
    CHECK(guest.state->enabled(Interrupt::intx));
}

TEST_CASE("table writes beyond the table's end change nothing") {
    Assigned guest{nvme(2)};
    guest.decode();
    guest.set<std::uint16_t>(0x42, 0x8000);
    for (unsigned vector = 2; vector < 8; ++vector)
        guest.unmask(vector);
    CHECK(guest.irqs.vectors.empty());
    CHECK(guest.state->wired.at(Interrupt::msix) == std::vector<int>{-1});
}

TEST_CASE("interrupt routes that run out leave vectors silent") {
    Assigned guest;
    guest.irqs.capacity = 1;
    guest.decode();
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(0);
    guest.unmask(1);
    CHECK(guest.state->wired.at(Interrupt::msix).size() == 1);
    CHECK(!guest.function->failed());
}

} // namespace inox::vfio_interrupts_test
