// SPDX-License-Identifier: Apache-2.0
// The rules of the IOASID core that keep guests apart and tell who does what.
#include <atomic>
#include <random>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/ioasid_roles.hpp"

namespace inox::iommu_ioasid_containment_test {

using namespace fakes::ioasid_roles;

TEST_CASE("R45 whatever order a guest chooses, its neighbour notices nothing") {
    PasidGuest guest{4};
    const auto neighbour = *iommu::PasidService::create(guest.core, guest.memory, {.quota = 4});
    const auto registration = neighbour->add_endpoint(endpoint, {});
    auto tables = guest.tables(0);
    tables.map(0x1000, 0x400000);
    GuestPasid theirs;
    REQUIRE(neighbour->alloc(theirs) == PasidStatus::ok);
    REQUIRE(neighbour->bind(endpoint, theirs, PasidGuest::bound(tables)) == PasidStatus::ok);
    const auto host = neighbour->submit(theirs)->host();
    const auto before = guest.core.info(host)->references;
    Device device{guest};
    std::mt19937 random{3};
    for (int i = 0; i < 5000; ++i) {
        const GuestPasid any{random() % 2 == 0 ? static_cast<std::uint32_t>(random() % 6) : host.raw()};
        GuestPasid out;
        switch (random() % 7) {
        case 0:
            (void)guest.service->alloc(out);
            break;
        case 1:
            (void)guest.service->free(any);
            break;
        case 2:
            (void)guest.service->bind(endpoint, any, some_table);
            break;
        case 3:
            (void)guest.service->unbind(endpoint, any);
            break;
        case 4:
            if (const auto submission = guest.service->submit(any))
                CHECK(submission->host() != host);
            break;
        case 5:
            if (device.context == HostPasid{})
                (void)device.program(any);
            CHECK(device.context != host);
            break;
        default:
            device.work();
        }
    }
    CHECK(guest.core.info(host)->references == before);
    CHECK(neighbour->submit(theirs)->host() == host);
    CHECK(neighbour->memory(endpoint, host)->write(Iova{0x1000}, std::uint32_t{1}));
    device.dirty = device.context != HostPasid{};
    guest.service->reset();
    device.work();
    CHECK(guest.clean());
}

TEST_CASE("R46 the control interface cleans up whatever state the guest left") {
    iommu::IoasidCore core;
    const auto memory = *GuestMemory::create(PasidGuest::ram_size, HugePages::none);
    {
        const auto service = *iommu::PasidService::create(core, memory, {.quota = 8});
        const auto registration = service->add_endpoint(endpoint, {});
        for (int i = 0; i < 8; ++i) {
            GuestPasid pasid;
            REQUIRE(service->alloc(pasid) == PasidStatus::ok);
            if (i % 2 == 0)
                REQUIRE(service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
        }
    }
    CHECK(core.sets().empty());
    CHECK(core.available() == iommu::max_ioasid);
    CHECK(core.refused_puts() == 0);
}

TEST_CASE("R47 control and IOMMU publish; CPU, device and IOMMU hear") {
    PasidGuest guest;
    Subscriber device, late;
    const auto r1 = guest.core.add_notifier(guest.service->set(), IoasidPriority::device, device);
    const auto r2 = guest.core.add_notifier(guest.service->set(), IoasidPriority::iommu, late);
    const auto pasid = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, pasid, some_table) == PasidStatus::ok);
    REQUIRE(guest.service->unbind(endpoint, pasid) == PasidStatus::ok);
    REQUIRE(guest.service->acquire(pasid));
    REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
    CHECK(device.heard == Heard{"alloc 32768", "bind 32768", "unbind 32768", "free 32768"});
    CHECK(late.heard == device.heard);
}

TEST_CASE("R48 stopping DMA, unbinding and freeing leaves nothing; unbinding first loses the DMA in between") {
    PasidGuest guest;
    auto tables = guest.tables(0);
    tables.map(0x1000, 0x400000);
    for (const bool early_death : {false, true}) {
        const auto pasid = guest.alloc();
        REQUIRE(guest.service->bind(endpoint, pasid, PasidGuest::bound(tables)) == PasidStatus::ok);
        auto memory = guest.service->memory(endpoint, guest.host(pasid));
        CHECK(memory->write(Iova{0x1000}, std::uint32_t{1}));
        if (!early_death)
            memory.reset();
        REQUIRE(guest.service->unbind(endpoint, pasid) == PasidStatus::ok);
        if (early_death)
            CHECK_FALSE(memory->write(Iova{0x1000}, std::uint32_t{2}));
        REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
        CHECK(guest.clean());
    }
    CHECK(guest.memory.read<std::uint32_t>(Gpa{0x400000}) == 1);
    CHECK(guest.faults.empty());
}

} // namespace inox::iommu_ioasid_containment_test
