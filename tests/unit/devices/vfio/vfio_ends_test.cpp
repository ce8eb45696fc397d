// SPDX-License-Identifier: Apache-2.0
// An assigned device that is reset, that cannot be reset, fails, vanishes, or is asked back.
#include <atomic>
#include <malloc.h>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/assigned.hpp"

namespace inox::vfio_ends_test {

using namespace devices;
using namespace devices::vfio;
using fakes::Assigned, fakes::nvme;

namespace {

bool has_line(const std::vector<HostDeviceEvent>& events, HostDeviceEvent::What what, const std::string& part) {
    return std::ranges::any_of(
        events, [&](const auto& event) { return event.what == what && event.text.find(part) != std::string::npos; });
}

} // namespace

TEST_CASE("a device is reset before the guest gets it, and after") {
    auto builder = nvme();
    {
        Assigned guest{builder};
        CHECK(builder.state->resets == 1);
        guest.set<std::uint16_t>(4, 6);
        guest.set<std::uint16_t>(0x42, 0x8000);
        CHECK(guest.machine.root->remove(guest.address).has_value());
        CHECK(builder.state->get<std::uint16_t>(region_config, 4) == 2); // bus mastering is off
        CHECK(!builder.state->enabled(Interrupt::msix));
        CHECK(guest.mappings.slots->empty());
        CHECK(builder.state->resets == 1); // a reset takes long: it runs where the last owner drops the function
        tests::turn(guest.loop);
        guest.function.reset();
        CHECK(builder.state->resets == 2);
        CHECK(builder.state->wired.empty());
        CHECK(!builder.state->alive);
    }
}

TEST_CASE("a device that the host resets when it is opened and closed is not reset once more") {
    auto builder = nvme();
    builder.state->reset_by_opening = true;
    {
        Assigned guest{builder};
        CHECK(guest.machine.root->remove(guest.address).has_value());
        tests::turn(guest.loop);
        guest.function.reset();
        CHECK(builder.state->wired.empty());
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
    CHECK(has_line(other.events, HostDeviceEvent::What::cannot_reset, "0000:01:00.1"));
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
    CHECK(has_line(guest.events, HostDeviceEvent::What::cannot_reset, "which the guest is using"));
}

TEST_CASE("a device without any reset is used all the same, with a warning") {
    auto builder = nvme();
    builder.state->can_reset = false;
    Assigned guest{builder};
    REQUIRE(guest.function);
    CHECK(has_line(guest.events, HostDeviceEvent::What::cannot_reset, "vfio0 (0000:01:00.0) was not reset"));
}

TEST_CASE("an error of the device takes it from the guest, alone") {
    Assigned guest;
    guest.decode();
    guest.set<std::uint16_t>(0x42, 0x8000);
    guest.unmask(0);
    guest.signal(Interrupt::error, 0);
    REQUIRE(guest.settle([&] { return guest.function->failed(); }));
    CHECK(has_line(guest.events, HostDeviceEvent::What::failed, "vfio0 (0000:01:00.0)"));
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
    REQUIRE(guest.fails());
    guest.settle([] { return false; });
    CHECK(guest.events.size() == 1);
    CHECK(guest.mappings.slots->empty());
}

TEST_CASE("a device whose vendor id still reads as ever is found out by what comes from the device") {
    Assigned guest;
    guest.decode();
    guest.state->gone = true;
    CHECK(guest.get<std::uint16_t>(0) == 0x1b36); // VFIO answers from a copy
    SECTION("configuration space reads as ones") { CHECK(guest.get<std::uint32_t>(0x204) == 0xffffffff); }
    SECTION("registers read as ones") { CHECK(guest.bar_get<std::uint32_t>(0, 0x3ff0) == 0xffffffff); }
    SECTION("the host refuses its registers") {
        guest.state->io_error = true;
        guest.bar_set<std::uint32_t>(0, 0x3ff0, 1);
    }
    REQUIRE(guest.fails());
    REQUIRE(guest.events.size() == 1);
    CHECK(has_line(guest.events, HostDeviceEvent::What::failed, "does not answer any more"));
}

TEST_CASE("a link that is down is a lost device, whatever the rest of configuration space says") {
    auto builder = nvme();
    Assigned guest{builder};
    guest.decode();
    builder.state->config<std::uint16_t>(0x80 + 0x12, 0xffff);
    builder.state->config<std::uint32_t>(0x204, 0xffffffff);
    CHECK(guest.get<std::uint32_t>(0x204) == 0xffffffff);
    CHECK(guest.fails());
}

TEST_CASE("registers that hold ones cost nobody a device that is there") {
    Assigned guest;
    guest.decode();
    guest.bar_set<std::uint32_t>(0, 0x3ff0, 0xffffffff);
    for (int i = 0; i < 20; ++i)
        CHECK(guest.bar_get<std::uint32_t>(0, 0x3ff0) == 0xffffffff);
    guest.settle([] { return false; });
    CHECK(!guest.function->failed());
}

TEST_CASE("a device that is away for a moment, as some resets take it, stays the guest's") {
    Assigned guest;
    guest.decode();
    guest.state->gone = true;
    CHECK(guest.get<std::uint32_t>(0x204) == 0xffffffff);
    guest.settle([] { return false; }, std::chrono::milliseconds{100});
    guest.state->gone = false;
    guest.settle([] { return false; });
    CHECK(!guest.function->failed());
    CHECK(guest.events.empty());
    guest.state->gone = true; // when it is gone for good, that is noticed
    CHECK(guest.get<std::uint32_t>(0x204) == 0xffffffff);
    CHECK(guest.fails());
}

TEST_CASE("a pulled-out device that the host asks back has failed, and is asked back all the same") {
    Assigned guest;
    guest.decode();
    guest.state->gone = true;
    guest.signal(Interrupt::request, 0);
    REQUIRE(guest.settle([&] { return guest.events.size() == 2; }));
    CHECK(guest.function->failed());
    CHECK(has_line(guest.events, HostDeviceEvent::What::failed, "pulled out"));
    CHECK(has_line(guest.events, HostDeviceEvent::What::asked_back, "vfio0 (0000:01:00.0)"));
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
    CHECK(has_line(guest.events, HostDeviceEvent::What::asked_back, "vfio0 (0000:01:00.0)"));
    guest.signal(Interrupt::request, 0);
    CHECK(guest.settle([&] { return guest.events.size() == 2; }));

    auto builder = nvme();
    std::shared_ptr<PciFunction> function;
    pci::Address where;
    auto context = guest.context();
    context.on_event = [&](const HostDeviceEvent&) {
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
    context.share_bar = [&](Range<Gpa> range, std::span<std::byte> host, const std::string&) {
        CHECK(range.size() == host.size());
        shared.push_back(range.start().raw());
        return Registration{[&shared, start = range.start().raw()] { std::erase(shared, start); }};
    };
    std::shared_ptr function = PciFunction::create(builder.open(), {}, context).value();
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

TEST_CASE("a guest that turns memory decoding on and off does not make the loop's list grow") {
    Assigned guest;
    auto builder = nvme();
    unsigned shared = 0;
    auto context = guest.context();
    context.share_bar = [&](auto, auto, const std::string&) {
        ++shared;
        return Registration{[] {}};
    };
    std::shared_ptr function = PciFunction::create(builder.open(), {}, context).value();
    const auto where = guest.machine.root->add(function).value();
    guest.machine.decode(where, 6);
    guest.machine.decode(where, 0);
    const auto before = ::mallinfo2().uordblks;
    for (int i = 0; i < 100000; ++i)
        guest.machine.decode(where, i % 2 == 0 ? 0 : 6);
    CHECK(::mallinfo2().uordblks < before + 2 * MiB); // one post for each change would take five times as much
    CHECK(guest.settle([&] { return shared == 1; }));
    CHECK(guest.machine.root->remove(where).has_value());
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
    CHECK(guest.fails());
}

} // namespace inox::vfio_ends_test
