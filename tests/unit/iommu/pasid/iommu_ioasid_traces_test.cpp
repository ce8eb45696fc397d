// SPDX-License-Identifier: Apache-2.0
// The two reference traces of an id's life: who holds a reference after each step.
#include "tests/catch.hpp"
#include "tests/fakes/ioasid_actors.hpp"

namespace inox::iommu_ioasid_traces_test {

using namespace fakes::ioasid_words;

namespace {

/// KVM's part of the traces.
struct TraceCpu {
    HostPasid entry{};
    Subscriber subscriber{[this](const Event& event, iommu::IoasidContext& context) {
        if (event.change == Event::Change::bind) {
            CHECK(context.get(IoasidHolder::cpu));
            entry = event.id;
        } else if ((event.change == Event::Change::unbind || event.change == Event::Change::free) &&
                   entry == event.id) {
            entry = HostPasid{};
            context.put(IoasidHolder::cpu);
        }
    }};
};

} // namespace

TEST_CASE("the normal trace: 1 2 3 4 3 2 1 0") {
    Ioasids ids;
    TraceCpu cpu;
    const auto registration = ids.core.add_notifier(ids.a, IoasidPriority::cpu, cpu.subscriber);
    const GuestPasid guest{101};
    const auto id = *ids.alloc(ids.a); // VFIO
    CHECK(ids.references(id) == 1);
    REQUIRE(ids.core.attach_spid(ids.a, id, guest));
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::iommu));
    CHECK(ids.references(id) == 2);
    REQUIRE(ids.core.bind(ids.a, id));
    CHECK(ids.references(id) == 3);
    CHECK(cpu.entry == id);
    const auto programmed = ids.core.find_by_spid(ids.a, guest, IoasidHolder::device); // VDCM
    CHECK(programmed == id);
    CHECK(ids.references(id) == 4);
    ids.core.put(ids.a, id, IoasidHolder::device); // hardware cleared
    CHECK(ids.references(id) == 3);
    REQUIRE(ids.core.unbind(ids.a, id));
    CHECK(ids.references(id) == 2);
    CHECK(cpu.entry == HostPasid{});
    ids.core.free(ids.a, id);
    CHECK(ids.references(id) == 1);
    CHECK(ids.pending(id));
    ids.core.put(ids.a, id, IoasidHolder::iommu);
    CHECK(ids.references(id) == 0);
    CHECK(*ids.alloc(ids.a) == id);
    CHECK(ids.references(id) == 1);
}

TEST_CASE("the trace of free first: 4 to 2, then the workers in either order") {
    for (const bool device_first : {true, false}) {
        Ioasids ids;
        TraceCpu cpu;
        bool device_scheduled = false, iommu_scheduled = false;
        unsigned seen_by_device = 0;
        Subscriber device{[&](const Event& event, iommu::IoasidContext&) {
            device_scheduled = event.change == Event::Change::free;
            seen_by_device = ids.references(event.id);
        }};
        Subscriber iommu{
            [&](const Event& event, iommu::IoasidContext&) { iommu_scheduled = event.change == Event::Change::free; }};
        const auto r1 = ids.core.add_notifier(ids.a, IoasidPriority::iommu, iommu);
        const auto r2 = ids.core.add_notifier(ids.a, IoasidPriority::device, device);
        const auto r3 = ids.core.add_notifier(ids.a, IoasidPriority::cpu, cpu.subscriber);
        const auto id = *ids.alloc(ids.a);
        REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{101}));
        REQUIRE(ids.core.get(ids.a, id, IoasidHolder::iommu));
        REQUIRE(ids.core.bind(ids.a, id));
        REQUIRE(ids.core.find_by_spid(ids.a, GuestPasid{101}, IoasidHolder::device));
        CHECK(ids.references(id) == 4);
        ids.core.free(ids.a, id);
        CHECK(seen_by_device == 3); // KVM's reference had been dropped by then
        CHECK(device_scheduled);
        CHECK(iommu_scheduled);
        CHECK(ids.references(id) == 2);
        CHECK(ids.pending(id));
        const auto first = device_first ? IoasidHolder::device : IoasidHolder::iommu;
        ids.core.put(ids.a, id, first);
        CHECK(ids.references(id) == 1);
        CHECK(ids.core.find_by_spid(ids.a, GuestPasid{101}).error() == IoasidErrc::not_found);
        CHECK(ids.core.unbind(ids.a, id).error() == IoasidErrc::not_found); // too late
        ids.core.put(ids.a, id, device_first ? IoasidHolder::iommu : IoasidHolder::device);
        CHECK(ids.references(id) == 0);
        CHECK(ids.used(ids.a) == 0);
    }
}

} // namespace inox::iommu_ioasid_traces_test
