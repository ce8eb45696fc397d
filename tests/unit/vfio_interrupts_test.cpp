// SPDX-License-Identifier: Apache-2.0
// Interrupts of an assigned device, and what becomes of it when it fails, is asked back, or cannot be reset.
#include <atomic>
#include <poll.h>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/assigned.hpp"
#include "tests/fakes/disk.hpp"

using namespace devices;
using namespace devices::vfio;
using fakes::Assigned, fakes::DeviceBuilder, fakes::nvme;
using Mode = InterruptWiring::Mode;
using Calls = std::vector<std::string>;

namespace {

/// A device with MSI of 8 vectors, 64-bit and maskable, at 0x50; INTx.
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

bool has_line(const std::vector<DeviceEvent>& events, DeviceEvent::Kind kind, const std::string& part) {
    return std::ranges::any_of(
        events, [&](const auto& event) { return event.kind == kind && event.text.find(part) != std::string::npos; });
}

} // namespace

TEST_CASE("INTx goes to the slot's line from the start, and its end of interrupt unmasks it at the host") {
    Assigned guest;
    REQUIRE(guest.irqs.lines.size() == 1);
    const auto& line = *guest.irqs.lines[0];
    CHECK(line.gsi == pci::intx_gsi(guest.address.slot, 1));
    CHECK(line.mode == vmm::TriggerMode::level);
    CHECK(guest.state->wired.at(Interrupt::intx) == std::vector<int>{line.trigger.fd()});
    CHECK(guest.state->unmask == line.resample.fd());
    CHECK(guest.get<std::uint8_t>(0x3c) == line.gsi);
    // Its switch is the device's.
    guest.set<std::uint16_t>(4, 0x0402);
    CHECK(guest.state->get<std::uint16_t>(region_config, 4) == 0x0402);
}

TEST_CASE("a device without INTx gets no line") {
    DeviceBuilder builder;
    builder.state->config<std::uint8_t>(0x3d, 1); // a pin that the host could not wire
    Assigned guest{builder};
    CHECK(guest.irqs.lines.empty());
    CHECK(guest.get<std::uint8_t>(0x3d) == 0);
    CHECK(guest.function->interrupts() == Mode::none);
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
    CHECK(guest.irqs.vectors[0]->message == vmm::MsiMessage{0xfee01000, 0x43});
    // Masking and unmasking again is nothing the host hears of.
    const auto calls = guest.state->calls.size();
    guest.bar_set<std::uint32_t>(0, 0x203c, 1);
    guest.bar_set<std::uint32_t>(0, 0x203c, 0);
    CHECK(guest.state->calls.size() == calls);
    guest.set<std::uint16_t>(0x42, 0);
    CHECK(guest.function->interrupts() == Mode::intx);
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
    guest.unmask(40); // more than the host has: silent, and no harm to the others' registers
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
        CHECK(guest.irqs.vectors[index]->message == vmm::MsiMessage{0xfee02000, 0x54 + index});
        CHECK(guest.irqs.vectors[index]->enabled);
        CHECK(guest.state->wired.at(Interrupt::msi)[index] == guest.irqs.vectors[index]->trigger.fd());
    }
    // A new target is nothing the host hears of.
    guest.set<std::uint32_t>(0x54, 0xfee03000);
    CHECK(guest.irqs.vectors[2]->message.address == 0xfee03000);
    CHECK(guest.state->calls.size() == 2);
    guest.set<std::uint16_t>(0x52, 0x0000);
    CHECK(guest.function->interrupts() == Mode::intx);
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
    CHECK(narrow.irqs.vectors[0]->message == vmm::MsiMessage{0xfee02000, 0x41});
    CHECK(narrow.get<std::uint16_t>(0x5a) == 0x7777); // already the device's
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
    const fakes::LogCapture log;
    guest.set<std::uint16_t>(0x52, 0x0001);
    CHECK(log.text() == "");
    guest.set<std::uint32_t>(0x54, 0x100000);
    CHECK(log.text().find("MSI vector 0 stays silent") != std::string::npos);
}

TEST_CASE("MSI and MSI-X at once: MSI-X wins, and MSI comes back after it") {
    auto builder = nvme(4);
    builder.msi(0xd0, 2, 0x0080);
    Assigned guest{builder};
    guest.decode();
    guest.set<std::uint32_t>(0xd4, 0xfee02000);
    guest.set<std::uint16_t>(0xdc, 0x60);
    guest.set<std::uint16_t>(0xd2, 1);
    CHECK(guest.function->interrupts() == Mode::msi);
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(0);
    CHECK(guest.function->interrupts() == Mode::msix);
    CHECK(!guest.state->enabled(Interrupt::msi));
    guest.set<std::uint16_t>(0xd2, 0);
    guest.set<std::uint16_t>(0xd2, 1);
    CHECK(guest.function->interrupts() == Mode::msix);
    guest.set<std::uint16_t>(0x42, 0);
    CHECK(guest.function->interrupts() == Mode::msi);
    CHECK(guest.state->enabled(Interrupt::msi));
    guest.set<std::uint16_t>(0xd2, 0);
    CHECK(guest.function->interrupts() == Mode::intx);
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

TEST_CASE("a device is reset before the guest gets it, and after") {
    auto builder = nvme();
    {
        Assigned guest{builder};
        CHECK(builder.state->resets == 1);
        guest.set<std::uint16_t>(4, 6);
        guest.set<std::uint16_t>(0x42, 0x8000);
        CHECK(guest.machine.root->remove(guest.address).has_value());
        CHECK(builder.state->get<std::uint16_t>(region_config, 4) == 2); // no DMA any more
        CHECK(!builder.state->enabled(Interrupt::msix));
        CHECK(guest.mappings.slots->empty());
        CHECK(guest.settle([&] { return builder.state->resets == 2; }));
        CHECK(builder.state->wired.empty());
        guest.function.reset();
        CHECK(!builder.state->alive);
    }
}

TEST_CASE("a device that the host resets when it is opened and closed is not reset once more") {
    auto builder = nvme();
    builder.state->reset_by_opening = true;
    {
        Assigned guest{builder};
        CHECK(guest.machine.root->remove(guest.address).has_value());
        CHECK(guest.settle([&] { return builder.state->wired.empty(); }));
        guest.function.reset();
        CHECK(!builder.state->alive);
    }
    CHECK(builder.state->resets == 0);
    CHECK(builder.state->bus_resets == 0);
}

TEST_CASE("without a reset of its own, its bus is reset when that hits nobody else") {
    auto builder = nvme();
    builder.state->can_reset = false;
    builder.state->peers = {{*PciAddress::parse("0000:01:00.0"), true}, {*PciAddress::parse("0000:01:00.1"), true}};
    Assigned guest{builder};
    CHECK(builder.state->bus_resets == 1);
    CHECK(guest.events.empty());

    builder.state->peers[1].owned = false;
    Assigned other{builder};
    CHECK(builder.state->bus_resets == 1);
    CHECK(has_line(other.events, DeviceEvent::Kind::cannot_reset, "0000:01:00.1"));
}

TEST_CASE("a bus reset that would hit a device the guest uses does not happen") {
    auto builder = nvme();
    builder.state->can_reset = false;
    builder.state->peers = {{*PciAddress::parse("0000:01:00.1"), true}};
    Assigned guest;
    auto context = guest.context();
    context.guest_uses = [](const PciAddress& address) { return address.function == 1; };
    REQUIRE(PciFunction::create(builder.open(), {}, context));
    CHECK(builder.state->bus_resets == 0);
    CHECK(has_line(guest.events, DeviceEvent::Kind::cannot_reset, "which the guest is using"));
}

TEST_CASE("a device without any reset is used all the same, with a warning") {
    auto builder = nvme();
    builder.state->can_reset = false;
    Assigned guest{builder};
    REQUIRE(guest.function);
    CHECK(has_line(guest.events, DeviceEvent::Kind::cannot_reset, "finds vfio0 (0000:01:00.0)"));
}

TEST_CASE("an error of the device takes it from the guest, alone") {
    Assigned guest;
    guest.decode();
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(0);
    guest.signal(Interrupt::error, 0);
    REQUIRE(guest.settle([&] { return guest.function->failed(); }));
    CHECK(has_line(guest.events, DeviceEvent::Kind::failed, "vfio0 (0000:01:00.0)"));
    CHECK(guest.mappings.slots->empty());
    CHECK(!guest.state->enabled(Interrupt::msix));
    CHECK(guest.state->get<std::uint16_t>(region_config, 4) == 2);
    CHECK(guest.get<std::uint32_t>(0) == 0xffffffff);
    CHECK(guest.bar_get<std::uint32_t>(0, 0x2000) == 0xffffffff);
    guest.state->writes.clear();
    guest.set<std::uint16_t>(4, 6);
    guest.set<std::uint32_t>(0x10, 0xd0000000);
    guest.bar_set<std::uint32_t>(0, 0x3ff0, 1);
    CHECK(guest.state->writes.empty());
    CHECK(guest.mappings.slots->empty());
    CHECK(guest.machine.root->remove(guest.address).has_value());
}

TEST_CASE("a device that vanishes reads as ones, and is found out once") {
    Assigned guest;
    guest.decode();
    guest.state->gone = true;
    CHECK(guest.get<std::uint16_t>(6) == 0xffff);
    CHECK(guest.bar_get<std::uint32_t>(0, 0x3ff0) == 0xffffffff);
    guest.bar_set<std::uint32_t>(0, 0x3ff0, 1);
    guest.set<std::uint32_t>(0x204, 1);
    REQUIRE(guest.settle([&] { return guest.function->failed(); }));
    guest.settle([] { return false; });
    CHECK(guest.events.size() == 1);
    CHECK(guest.mappings.slots->empty());
}

TEST_CASE("a host that refuses one access does not cost the guest its device") {
    Assigned guest;
    guest.decode();
    guest.state->regions[0].writable = false;
    guest.bar_set<std::uint32_t>(0, 0x3ff0, 1);
    guest.settle([] { return false; });
    CHECK(!guest.function->failed());
}

TEST_CASE("the host asking for its device back is told, each time, and may be answered by removing it at once") {
    Assigned guest;
    guest.signal(Interrupt::request, 0);
    REQUIRE(guest.settle([&] { return !guest.events.empty(); }));
    CHECK(has_line(guest.events, DeviceEvent::Kind::asked_back, "vfio0 (0000:01:00.0)"));
    guest.signal(Interrupt::request, 0);
    CHECK(guest.settle([&] { return guest.events.size() == 2; }));

    auto builder = nvme();
    std::shared_ptr<PciFunction> function;
    pci::Address where;
    auto context = guest.context();
    context.on_event = [&](const DeviceEvent&) {
        (void)guest.machine.root->remove(where);
        function.reset();
    };
    function = PciFunction::create(builder.open(), {}, context).value();
    where = guest.machine.root->add(function).value();
    const std::uint64_t one = 1;
    REQUIRE(::write(builder.state->wired.at(Interrupt::request)[0], &one, sizeof one) == sizeof one);
    CHECK(guest.settle([&] { return !builder.state->alive; }));
}

TEST_CASE("other devices may reach a BAR where the guest placed it, until it moves or the device goes") {
    Assigned guest;
    auto builder = nvme();
    std::vector<std::uint64_t> shared;
    auto context = guest.context();
    context.share_bar = [&](vmm::Range<vmm::Gpa> range, std::span<std::byte> host, const std::string&) {
        CHECK(range.size() == host.size());
        shared.push_back(range.start().raw());
        return vmm::Registration{[&shared, start = range.start().raw()] { std::erase(shared, start); }};
    };
    auto function = PciFunction::create(builder.open(), {}, context).value();
    const auto where = guest.machine.root->add(function).value();
    guest.machine.decode(where, 6);
    const auto home = function->config().bar_address(0);
    CHECK(guest.settle([&] { return shared == std::vector<std::uint64_t>{home}; }));
    guest.machine.set<std::uint32_t>(where, 0x14, 0);
    guest.machine.set<std::uint32_t>(where, 0x10, 0xd0000000);
    CHECK(guest.settle([&] { return shared == std::vector<std::uint64_t>{0xd0000000}; }));
    CHECK(guest.machine.root->remove(where).has_value());
    CHECK(guest.settle([&] { return shared.empty(); }));
}

TEST_CASE("vCPUs at configuration space, table and registers at once, while the device fails") {
    Assigned guest;
    guest.decode();
    std::atomic<bool> done{false};
    {
        std::jthread config{[&] {
            for (int i = 0; i < 300; ++i) {
                guest.set<std::uint16_t>(0x42, i % 2 ? 0x8000 : 0xc000);
                guest.set<std::uint16_t>(4, i % 3 ? 6 : 0);
                guest.set<std::uint16_t>(0x42, 0);
            }
            done = true;
        }};
        std::jthread table{[&] {
            for (unsigned i = 0; !done; ++i) {
                guest.unmask(i % 8);
                guest.bar_set<std::uint32_t>(0, 0x2000 + 16 * (i % 8) + 12, 1);
            }
        }};
        std::jthread registers{[&] {
            while (!done) {
                (void)guest.bar_get<std::uint32_t>(0, 0x3ff0);
                (void)guest.get<std::uint32_t>(0x204);
            }
        }};
        guest.settle([&] { return done.load(); });
        guest.state->gone = true;
    }
    (void)guest.get<std::uint32_t>(0x204);
    CHECK(guest.settle([&] { return guest.function->failed(); }));
}
