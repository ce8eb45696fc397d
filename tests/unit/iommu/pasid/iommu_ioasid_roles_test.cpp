// SPDX-License-Identifier: Apache-2.0
// The rules of the IOASID core that concern its participants: the CPU's table, address spaces, devices.
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/ioasid_roles.hpp"

namespace inox::iommu_ioasid_roles_test {

using namespace fakes::ioasid_roles;

TEST_CASE("R20 the CPU has its reference and its entry before anyone else hears of the bind") {
    PasidGuest guest;
    bool installed = false;
    unsigned references = 0;
    Subscriber device{[&](const Event& event, iommu::IoasidContext&) {
        if (event.change != Event::Change::bind)
            return;
        installed = guest.service->table().translate(*event.spid) == event.id;
        references = held(guest, event.id, IoasidHolder::cpu);
    }};
    const auto registration = guest.core.add_notifier(guest.service->set(), IoasidPriority::device, device);
    REQUIRE(guest.service->bind(endpoint, guest.alloc(), some_table) == PasidStatus::ok);
    CHECK(installed);
    CHECK(references == 1);
}

TEST_CASE("R21 on UNBIND the CPU clears its entry, then drops its reference") {
    PasidGuest guest;
    const auto pasid = guest.alloc();
    const auto host = guest.host(pasid);
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    while_in_flight(
        guest, pasid, [&] { (void)guest.service->unbind(endpoint, pasid); },
        [&] { CHECK(held(guest, host, IoasidHolder::cpu) == 1); });
    CHECK(held(guest, host, IoasidHolder::cpu) == 0);
}

TEST_CASE("R22 after FREE there is no UNBIND, and a late unbind is harmless") {
    PasidGuest guest;
    Subscriber all;
    const auto registration = guest.core.add_notifier(IoasidPriority::last, all);
    const auto pasid = guest.alloc();
    const auto host = guest.host(pasid);
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    REQUIRE(guest.service->acquire(pasid));
    REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
    CHECK(guest.service->unbind(endpoint, pasid) == PasidStatus::unknown_pasid);
    CHECK(guest.core.unbind(guest.service->set(), host).error() == IoasidErrc::not_found);
    CHECK(all.heard == Heard{"alloc 32768", "bind 32768", "free 32768"});
    CHECK(guest.references(host) == 1);
}

TEST_CASE("R23 an unbind meant for an earlier life hits the guest's own new one at most") {
    PasidGuest guest;
    const auto neighbour = *iommu::PasidService::create(guest.core, guest.memory, {.quota = 4});
    const auto registration = neighbour->add_endpoint(endpoint, {});
    GuestPasid other;
    REQUIRE(neighbour->alloc(other) == PasidStatus::ok);
    REQUIRE(neighbour->bind(endpoint, other, some_table) == PasidStatus::ok);
    const auto pasid = guest.alloc();
    REQUIRE(other == pasid);
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
    REQUIRE(guest.alloc() == pasid);
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    CHECK(guest.service->unbind(endpoint, pasid) == PasidStatus::ok);
    CHECK_FALSE(guest.service->submit(pasid));
    CHECK(neighbour->submit(other));
}

TEST_CASE("R24 between free and the last use no faults are reported") {
    PasidGuest guest;
    const auto pasid = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    const auto memory = guest.service->memory(endpoint, guest.host(pasid));
    CHECK_FALSE(memory->read<std::uint32_t>(Iova{0x1000}));
    CHECK(guest.faults.size() == 1);
    REQUIRE(guest.service->acquire(pasid));
    REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
    CHECK_FALSE(memory->read<std::uint32_t>(Iova{0x1000}));
    CHECK(guest.faults.size() == 1);
    CHECK(guest.service->counts().faults == 1);
}

TEST_CASE("R25 a participant takes one reference, however many devices are bound") {
    PasidGuest guest;
    const auto pasid = guest.alloc();
    const auto host = guest.host(pasid);
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    REQUIRE(guest.service->bind(PasidGuest::other_endpoint, pasid, some_table) == PasidStatus::ok);
    CHECK(guest.core.info(host)->references == std::array<std::uint16_t, 5>{1, 1, 1, 0, 0});
    CHECK(guest.core.info(host)->binds == 2);
}

TEST_CASE("R30 who defers work keeps his reference until it is done") {
    PasidGuest guest;
    Device device{guest};
    const auto pasid = guest.alloc();
    const auto host = guest.host(pasid);
    REQUIRE(device.program(pasid));
    REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
    CHECK(device.dirty);
    CHECK(held(guest, host, IoasidHolder::device) == 1);
    device.work();
    CHECK(guest.references(host) == 0);
}

TEST_CASE("R31 deferred work may finish in any order") {
    for (const bool device_first : {true, false}) {
        Ioasids ids;
        const auto id = *ids.alloc(ids.a);
        REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
        REQUIRE(ids.core.get(ids.a, id, IoasidHolder::iommu));
        ids.core.free(ids.a, id);
        ids.core.put(ids.a, id, device_first ? IoasidHolder::device : IoasidHolder::iommu);
        CHECK(ids.pending(id));
        ids.core.put(ids.a, id, device_first ? IoasidHolder::iommu : IoasidHolder::device);
        CHECK(ids.used(ids.a) == 0);
        CHECK(*ids.alloc(ids.a) == id);
    }
}

TEST_CASE("R36 the table holds the bound pairs of its guest, no more and no less") {
    PasidGuest guest{64};
    const auto neighbour = *iommu::PasidService::create(guest.core, guest.memory, {.quota = 64});
    const auto registration = neighbour->add_endpoint(endpoint, {});
    std::mt19937 random{7};
    for (int i = 0; i < 2000; ++i) {
        auto& service = random() % 2 == 0 ? *guest.service : *neighbour;
        const GuestPasid pasid{static_cast<std::uint32_t>(1 + random() % 40)};
        GuestPasid out;
        switch (random() % 4) {
        case 0:
            (void)service.alloc(out, pasid);
            break;
        case 1:
            (void)service.bind(endpoint, pasid, some_table);
            break;
        case 2:
            (void)service.unbind(endpoint, pasid);
            break;
        default:
            (void)service.free(pasid);
        }
        std::vector<std::pair<GuestPasid, HostPasid>> bound;
        for (const auto& each : service.snapshot().pasids)
            if (each.id.binds != 0)
                bound.emplace_back(*each.id.spid, each.id.id);
        std::ranges::sort(bound);
        REQUIRE(service.table().pairs() == bound);
    }
}

TEST_CASE("R37 the CPU side installs the pair the event names") {
    PasidGuest guest;
    const auto& set = guest.service->set();
    const auto id = *guest.core.alloc(set, HostPasid{0x100}, HostPasid{0x100});
    REQUIRE(guest.core.attach_spid(set, id, GuestPasid{0xbeef}));
    REQUIRE(guest.core.bind(set, id));
    CHECK(guest.service->table().translate(GuestPasid{0xbeef}) == id);
    REQUIRE(guest.core.unbind(set, id));
    guest.core.free(set, id);
}

TEST_CASE("R38 when the guest ends, the CPU's references and entries go, and ids stay until freed") {
    PasidGuest guest;
    std::vector<GuestPasid> pasids{guest.alloc(), guest.alloc(), guest.alloc()};
    for (const auto pasid : pasids)
        REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    guest.service->stop_submissions();
    CHECK(guest.service->table().size() == 0);
    for (const auto pasid : pasids) {
        CHECK_FALSE(guest.service->submit(pasid));
        CHECK(held(guest, guest.host(pasid), IoasidHolder::cpu) == 0);
        CHECK(guest.references(guest.host(pasid)) == 2);
    }
    REQUIRE(guest.service->bind(endpoint, guest.alloc(), some_table) == PasidStatus::ok);
    CHECK(guest.service->table().size() == 0);
    guest.service->reset();
    CHECK(guest.clean());
}

TEST_CASE("R39 a submission whose PASID is not in the table goes nowhere") {
    PasidGuest guest;
    const auto pasid = guest.alloc();
    CHECK(guest.service->submit(pasid).error().cause == iommu::PasidMiss::Cause::not_present);
    CHECK(guest.service->submit(GuestPasid{0x100000}).error().cause == iommu::PasidMiss::Cause::out_of_range);
    // A host's number is not a guest's number.
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    CHECK_FALSE(guest.service->submit(GuestPasid{guest.host(pasid).raw()}));
    CHECK(guest.service->counts().submissions == 0);
    CHECK(guest.service->counts().misses == 3);
}

TEST_CASE("R40 on FREE the CPU clears its entry, then drops its reference") {
    PasidGuest guest;
    const auto pasid = guest.alloc();
    const auto host = guest.host(pasid);
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    while_in_flight(
        guest, pasid, [&] { (void)guest.service->free(pasid); },
        [&] {
            CHECK(held(guest, host, IoasidHolder::cpu) == 1);
            CHECK(guest.core.info(host)->free_pending);
        });
    CHECK(guest.references(host) == 0);
}

TEST_CASE("R41 a device is programmed with a host id that the guest's number names, never with what was written") {
    PasidGuest guest;
    Device device{guest};
    const auto pasid = guest.alloc();
    CHECK(device.program(pasid));
    CHECK(device.context == guest.host(pasid));
    CHECK(held(guest, device.context, IoasidHolder::device) == 1);
    const auto before = device.context;
    for (const auto wrong : {GuestPasid{2}, GuestPasid{before.raw()}, GuestPasid{~0U}})
        CHECK_FALSE(device.program(wrong));
    CHECK(device.context == before);
    guest.service->release(before);
}

TEST_CASE("R42 a device's reference outlives everything but the device's own use") {
    PasidGuest guest;
    Device device{guest};
    const auto pasid = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    REQUIRE(device.program(pasid));
    const auto host = device.context;
    REQUIRE(guest.service->unbind(endpoint, pasid) == PasidStatus::ok);
    REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
    CHECK(guest.references(host) == 1);
    CHECK(device.context == host);
    device.work();
    CHECK(device.context == HostPasid{});
    CHECK(guest.references(host) == 0);
}

TEST_CASE("R43 a context is clean before its number can be anybody's") {
    PasidGuest guest;
    Device device{guest};
    const auto pasid = guest.alloc();
    REQUIRE(device.program(pasid));
    const auto host = device.context;
    REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
    const auto next = guest.alloc();
    CHECK(guest.host(next) != host); // the device still holds it
    device.work();
    CHECK(device.context == HostPasid{});
    CHECK(guest.host(guest.alloc()) == host);
}

TEST_CASE("R44 two lives of a number never overlap in a device") {
    iommu::IoasidCore core{1};
    const auto memory = *GuestMemory::create(PasidGuest::ram_size, HugePages::none);
    const auto service = *iommu::PasidService::create(core, memory, {.quota = 1});
    GuestPasid pasid;
    for (int life = 0; life < 3; ++life) {
        REQUIRE(service->alloc(pasid) == PasidStatus::ok);
        const auto host = *service->acquire(pasid);
        REQUIRE(service->free(pasid) == PasidStatus::ok);
        CHECK(service->alloc(pasid) == PasidStatus::exhausted);
        service->release(host);
    }
}

} // namespace inox::iommu_ioasid_roles_test
