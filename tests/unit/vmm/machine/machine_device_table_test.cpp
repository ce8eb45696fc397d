// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/device_table.hpp"

#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/machine_events.hpp"
#include "tests/fakes/pci_function.hpp"
#include "tests/fakes/virtio_device.hpp"
#include "tests/support/registers.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::machine_device_table_test {

using PciAddress = devices::pci::Address;
using fakes::PciFunction;
using What = DeviceEvent::What;

namespace {

constexpr std::uint16_t added_port = 0x610;
constexpr std::uint16_t wanted_port = 0x614;
constexpr std::uint16_t eject_port = 0x618;

/// A machine with a device table, and the guest's side of the table's registers.
struct Bench {
    EventLoop loop{};
    fakes::PciMachine pci{};
    fakes::FakeIrqs irqs{};
    fakes::RecordingEvents owner{};
    std::vector<DeviceEvent>& events{owner.devices};
    DeviceTable table{loop, owner};

    explicit Bench(bool running = true) {
        REQUIRE(table.use(*pci.root, pci.ports, irqs));
        if (running)
            table.guest_starts();
    }
    static NewDevice disk(const std::string& id, std::shared_ptr<PciFunction> function = {}) {
        if (!function)
            function = std::make_shared<PciFunction>(id);
        return {.name = {kind_of<DriveConfig>, id},
                .function = std::move(function),
                .device = std::make_shared<fakes::EchoDevice>()};
    }
    PciAddress add(const std::string& id) { return *table.add(disk(id)).value().address; }
    std::uint32_t read(std::uint16_t port) { return tests::in<std::uint32_t>(pci.ports, port); }
    void eject(PciAddress address) { tests::out<std::uint32_t>(pci.ports, eject_port, 1U << address.slot); }
    bool visible(PciAddress address) { return pci.get<std::uint16_t>(address, 0) != 0xffff; }
    std::vector<What> told() {
        std::vector<What> all;
        for (const auto& event : std::exchange(events, {}))
            all.push_back(event.what);
        return all;
    }
};

} // namespace

TEST_CASE("device table: a device at the start is listed, and nobody is interrupted") {
    Bench bench{false};
    const PciAddress address = bench.add("root");
    CHECK(address == PciAddress{1, 0});
    CHECK(bench.read(added_port) == 0);
    CHECK(bench.events.empty());
    REQUIRE(bench.table.list().size() == 1);
    CHECK(bench.table.list()[0].name == DeviceName{kind_of<DriveConfig>, "root"});
    CHECK(bench.table.list()[0].state == DeviceState::active);
    CHECK(bench.table.list()[0].address == address);
}

TEST_CASE("device table: a device added while the guest runs is on the bus when the guest is told") {
    Bench bench;
    const PciAddress address = bench.add("data");
    CHECK(bench.visible(address));
    CHECK(bench.read(added_port) == 1U << address.slot);
    CHECK(bench.told() == std::vector{What::added});
}

TEST_CASE("device table: a removal waits for the guest's eject") {
    Bench bench;
    auto function = std::make_shared<PciFunction>("data");
    const std::weak_ptr<PciFunction> watched = function;
    const PciAddress address = *bench.table.add(Bench::disk("data", std::move(function))).value().address;
    (void)bench.read(added_port);
    REQUIRE(bench.table.remove({kind_of<DriveConfig>, "data"}, Removal::asked));
    CHECK(bench.table.list()[0].state == DeviceState::ejecting);
    CHECK(bench.visible(address));
    CHECK(bench.read(wanted_port) == 1U << address.slot);
    CHECK(bench.told() == std::vector{What::added, What::ejecting});

    bench.eject(address);
    CHECK_FALSE(bench.visible(address)); // gone as soon as the guest looks again
    tests::turn(bench.loop);
    CHECK(bench.table.list().empty());
    CHECK(bench.told() == std::vector{What::ejected});
    CHECK(watched.expired());
    CHECK(bench.table.settled());
}

TEST_CASE("device table: a removal asked for again asks the guest again") {
    Bench bench;
    const PciAddress address = bench.add("data");
    for (unsigned i = 0; i < 2; ++i) {
        REQUIRE(bench.table.remove({kind_of<DriveConfig>, "data"}, Removal::asked));
        CHECK(bench.read(wanted_port) == 1U << address.slot);
    }
}

TEST_CASE("device table: a forced removal is done at once, and the guest is told to clean up") {
    Bench bench;
    auto function = std::make_shared<PciFunction>("data");
    const std::weak_ptr<PciFunction> watched = function;
    const PciAddress address = *bench.table.add(Bench::disk("data", std::move(function))).value().address;
    REQUIRE(bench.table.remove({kind_of<DriveConfig>, "data"}, Removal::forced));
    CHECK_FALSE(bench.visible(address));
    CHECK(watched.expired());
    CHECK(bench.table.list().empty());
    CHECK(bench.told() == std::vector{What::added, What::removed});
    CHECK(bench.read(added_port) == 0);
    CHECK(bench.read(wanted_port) == 1U << address.slot);
    // The eject of the old device comes late and must not affect any other.
    CHECK(bench.add("next") != address);
    bench.eject(address);
    tests::turn(bench.loop);
    CHECK(bench.table.list().size() == 1);
}

TEST_CASE("device table: force ends a removal the guest does not answer") {
    Bench bench;
    bench.add("data");
    REQUIRE(bench.table.remove({kind_of<DriveConfig>, "data"}, Removal::asked));
    REQUIRE(bench.table.remove({kind_of<DriveConfig>, "data"}, Removal::forced));
    CHECK(bench.table.list().empty());
}

TEST_CASE("device table: what the guest ejects by itself is gone, too") {
    Bench bench;
    const PciAddress address = bench.add("data");
    bench.eject(address);
    tests::turn(bench.loop);
    CHECK(bench.table.list().empty());
    CHECK(bench.told() == std::vector{What::added, What::ejected});
}

TEST_CASE("device table: an eject between a request and the loop's next turn is no error") {
    Bench bench;
    const PciAddress address = bench.add("data");
    bench.eject(address); // the loop has not handled it yet
    CHECK(bench.table.list().size() == 1);
    NewDevice same_place = Bench::disk("other");
    same_place.where = address;
    const auto twice = bench.table.add(std::move(same_place));
    CHECK(twice.error().code == Errc::already_exists);
    REQUIRE(bench.table.remove({kind_of<DriveConfig>, "data"}, Removal::forced));
    tests::turn(bench.loop);
    CHECK(bench.table.list().empty());
    CHECK(bench.told() == std::vector{What::added, What::removed});
}

TEST_CASE("device table: names are unique within a kind, and an id alone must name one device") {
    Bench bench;
    bench.add("1");
    const auto again = bench.table.add(Bench::disk("1"));
    REQUIRE_FALSE(again);
    CHECK(again.error().code == Errc::already_exists);
    CHECK(bench.table.find("1").value() == DeviceName{kind_of<DriveConfig>, "1"});
    NewDevice net = Bench::disk("1");
    net.name.kind = kind_of<devices::virtio::NetOptions>;
    const auto added = bench.table.add(std::move(net));
    REQUIRE(added);
    CHECK(bench.table.find("1").error().code == Errc::in_use);
    CHECK(bench.table.find("2").error().code == Errc::not_found);
    CHECK(bench.table.remove({kind_of<devices::virtio::VsockOptions>, "1"}, Removal::asked).error().code ==
          Errc::not_found);
    CHECK(parse_kind("vfio") == kind_of<VfioConfig>);
    CHECK(parse_kind("disks") == std::nullopt);
}

TEST_CASE("device table: a second device of a kind that comes once is refused, whatever its id") {
    Bench bench;
    const auto vsock = [](const char* id) {
        NewDevice device = Bench::disk(id);
        device.name.kind = kind_of<devices::virtio::VsockOptions>;
        return device;
    };
    REQUIRE(bench.table.add(vsock("vsock0")));
    for (const char* id : {"vsock0", "other"}) {
        const auto second = bench.table.add(vsock(id));
        REQUIRE_FALSE(second);
        CHECK(second.error().code == Errc::already_exists);
        CHECK(second.error().what == "there is already: vsock 'vsock0'");
        CHECK_THAT(second.error().hint, Catch::Contains("at most one"));
    }
}

TEST_CASE("device table: a permanent device stays, whoever asks") {
    Bench bench;
    NewDevice device = Bench::disk("root");
    device.permanent = true;
    const PciAddress address = *bench.table.add(std::move(device)).value().address;
    for (const Removal how : {Removal::asked, Removal::forced})
        CHECK(bench.table.remove({kind_of<DriveConfig>, "root"}, how).error().code == Errc::wrong_state);
    bench.eject(address);
    tests::turn(bench.loop);
    CHECK(bench.visible(address));
    CHECK(bench.table.list().size() == 1);
}

TEST_CASE("device table: 31 devices fill the bus, and a slot that came free is used again") {
    Bench bench;
    for (unsigned i = 1; i < 32; ++i)
        CHECK(bench.add(std::to_string(i)).slot == i);
    CHECK(bench.table.add(Bench::disk("32")).error().code == Errc::no_resource);
    for (const char* id : {"7", "5"})
        REQUIRE(bench.table.remove({kind_of<DriveConfig>, id}, Removal::forced));
    // Chooses the slot that has been free for longest; a guest that never answers does not use up all slots.
    CHECK(bench.add("a").slot == 7);
    CHECK(bench.read(wanted_port) == 1U << 5);
    CHECK(bench.add("b").slot == 5);
}

TEST_CASE("device table: a slot is not used again while a driver waits for what was torn out of it") {
    Bench bench;
    for (unsigned i = 1; i < 32; ++i)
        bench.pci.set<std::uint16_t>(bench.add(std::to_string(i)), devices::pci::reg::command,
                                     devices::pci::command_bit::bus_master);
    REQUIRE(bench.table.remove({kind_of<DriveConfig>, "7"}, Removal::forced));
    const auto refused = bench.table.add(Bench::disk("a")).error();
    CHECK(refused.code == Errc::no_resource);
    CHECK(refused.what.find("has not ejected") != std::string::npos);
    NewDevice there = Bench::disk("a");
    there.where = PciAddress{7, 0};
    CHECK(bench.table.add(std::move(there)).error().code == Errc::no_resource);
    CHECK(bench.pci.get<std::uint8_t>({7, 0}, 0) == 0xff);
    bench.eject({7, 0});
    tests::turn(bench.loop);
    CHECK(bench.add("a").slot == 7);
}

TEST_CASE("device table: a promised slot is nobody else's until its device comes or does not") {
    Bench bench;
    auto promise = bench.table.promise_slot().value();
    bench.eject(promise.where); // the slot has no device yet
    tests::turn(bench.loop);
    for (unsigned i = 0; i < 30; ++i)
        CHECK(bench.add(std::to_string(i)) != promise.where);
    CHECK(bench.table.add(Bench::disk("too many")).error().code == Errc::no_resource);
    CHECK(bench.table.promise_slot().error().code == Errc::no_resource);
    SECTION("it comes") {
        auto device = Bench::disk("promised");
        device.where = promise.where;
        CHECK(bench.table.add(std::move(device)).value().address == promise.where);
        promise.keep.reset();
        CHECK(bench.table.add(Bench::disk("too many")).error().code == Errc::no_resource);
    }
    SECTION("it does not") {
        promise.keep.reset();
        CHECK(bench.add("another") == promise.where);
    }
}

TEST_CASE("device table: a refused addition leaves nothing behind") {
    Bench bench;
    auto function = std::make_shared<PciFunction>("data");
    function->refuse_add = true;
    const std::weak_ptr<PciFunction> watched = function;
    CHECK_FALSE(bench.table.add(Bench::disk("data", std::move(function))));
    CHECK(watched.expired());
    CHECK(bench.table.list().empty());
    CHECK(bench.read(added_port) == 0);
    CHECK(bench.events.empty());
}

TEST_CASE("device table: a machine without PCI lists its devices and cannot change them") {
    EventLoop loop;
    fakes::RecordingEvents owner;
    DeviceTable table{loop, owner};
    REQUIRE(table.add_fixed({kind_of<DriveConfig>, "root"}, nullptr));
    CHECK(table.list().size() == 1);
    CHECK_FALSE(table.list()[0].address);
    CHECK(table.add(Bench::disk("data")).error().code == Errc::wrong_state);
    CHECK(table.remove({kind_of<DriveConfig>, "root"}, Removal::forced).error().code == Errc::wrong_state);
}

TEST_CASE("device table: a guest that ejects without end makes the loop no work without end") {
    Bench bench;
    std::jthread guest{[&](const std::stop_token& stop) {
        while (!stop.stop_requested())
            tests::out<std::uint32_t>(bench.pci.ports, eject_port, 0xffffffff);
    }};
    for (unsigned i = 0; i < 200; ++i) {
        if (bench.table.list().size() < 20)
            REQUIRE(bench.table.add(Bench::disk(std::to_string(i))));
        tests::turn(bench.loop);
    }
    guest.request_stop();
    guest.join();
    tests::turn(bench.loop);
    bench.events.clear();
    for (const auto& device : bench.table.list()) {
        CHECK(bench.visible(*device.address));
        REQUIRE(bench.table.remove(device.name, Removal::forced));
    }
    CHECK(bench.table.list().empty());
    CHECK(tests::run_until(bench.loop, [&] { return bench.table.settled(); }));
}

} // namespace inox::machine_device_table_test
