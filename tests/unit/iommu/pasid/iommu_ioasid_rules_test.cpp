// SPDX-License-Identifier: Apache-2.0
// The rules of the IOASID core that concern sets, private numbers and freeing. Binding, events, allocators:
// iommu_ioasid_events_test.cpp; participants: iommu_ioasid_roles_test.cpp and iommu_ioasid_containment_test.cpp.
#include "tests/catch.hpp"
#include "tests/fakes/ioasid_actors.hpp"

namespace inox::iommu_ioasid_rules_test {

using namespace fakes::ioasid_words;

TEST_CASE("R1 an id belongs to the set it was allocated in") {
    Ioasids ids;
    const auto id = *ids.alloc(ids.a);
    CHECK(ids.core.find(ids.a, id));
    CHECK(error(ids.core.find(ids.b, id)) == IoasidErrc::access);
    CHECK(ids.core.ids(ids.a).size() == 1);
    CHECK(ids.core.ids(ids.b).empty());
}

TEST_CASE("R2 a set is found by its token, and process tokens are unique among live sets") {
    Ioasids ids;
    const auto set = *ids.core.set_alloc({process, 42}, 4);
    CHECK(ids.core.find_set({process, 42}) == set);
    CHECK(error(ids.core.set_alloc({process, 42}, 4)) == IoasidErrc::exists);
    CHECK(error(ids.core.set_alloc({process, 0}, 4)) == IoasidErrc::invalid);
    REQUIRE(ids.core.set_free(set));
    CHECK(ids.core.find_set({process, 42}) == nullptr);
    CHECK(ids.core.set_alloc({process, 42}, 4));
}

TEST_CASE("R3 the kind of a token is part of the identity") {
    Ioasids ids;
    const auto plain_set = *ids.core.set_alloc({plain, 42}, 4);
    const auto process_set = *ids.core.set_alloc({process, 42}, 4);
    CHECK(ids.core.find_set({plain, 42}) == plain_set);
    CHECK(ids.core.find_set({process, 42}) == process_set);
}

TEST_CASE("R4 every operation on an id of another set is refused and changes nothing") {
    Ioasids ids;
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{7}));
    REQUIRE(ids.core.bind(ids.a, id));
    const auto before = *ids.core.info(id);
    CHECK(error(ids.core.get(ids.b, id, IoasidHolder::iommu)) == IoasidErrc::access);
    CHECK(error(ids.core.find(ids.b, id)) == IoasidErrc::access);
    CHECK(error(ids.core.attach_data(ids.b, id, std::make_shared<int>())) == IoasidErrc::access);
    CHECK(error(ids.core.attach_spid(ids.b, id, GuestPasid{8})) == IoasidErrc::access);
    CHECK(error(ids.core.detach_spid(ids.b, id)) == IoasidErrc::access);
    CHECK(error(ids.core.bind(ids.b, id)) == IoasidErrc::access);
    CHECK(error(ids.core.unbind(ids.b, id)) == IoasidErrc::access);
    ids.core.put(ids.b, id, IoasidHolder::owner);
    ids.core.free(ids.b, id);
    ids.core.free_all(ids.b);
    const auto after = *ids.core.info(id);
    CHECK(after.references == before.references);
    CHECK(after.spid == before.spid);
    CHECK(after.binds == before.binds);
    CHECK_FALSE(after.free_pending);
}

TEST_CASE("R5 a private number reaches ids of its own set only") {
    Ioasids ids;
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{7}));
    CHECK(ids.core.find_by_spid(ids.a, GuestPasid{7}) == id);
    CHECK(error(ids.core.find_by_spid(ids.b, GuestPasid{7})) == IoasidErrc::not_found);
    CHECK(error(ids.core.find_by_spid(ids.b, GuestPasid{7}, IoasidHolder::device)) == IoasidErrc::not_found);
    CHECK(ids.references(id) == 1);
}

TEST_CASE("R6 a quota has room again after the reclaim, not after free") {
    Ioasids ids{100, 2};
    const auto first = *ids.alloc(ids.a);
    REQUIRE(ids.alloc(ids.a));
    CHECK(error(ids.alloc(ids.a)) == IoasidErrc::no_space);
    REQUIRE(ids.core.get(ids.a, first, IoasidHolder::device));
    ids.core.free(ids.a, first);
    CHECK(error(ids.alloc(ids.a)) == IoasidErrc::no_space);
    ids.core.put(ids.a, first, IoasidHolder::device);
    CHECK(ids.alloc(ids.a));
}

TEST_CASE("R7 the sum of quotas never exceeds the ids there are") {
    iommu::IoasidCore core;
    CHECK(core.available() == 0xfffff);
    const auto set = *core.set_alloc({plain, 1}, 0xff000);
    CHECK(error(core.set_alloc({plain, 2}, 0x1000)) == IoasidErrc::no_space);
    const auto rest = *core.set_alloc({plain, 2}, 0);
    CHECK(core.sets()[1].quota == 0xfff);
    CHECK(core.available() == 0);
    CHECK(error(core.set_alloc({plain, 3}, 0)) == IoasidErrc::no_space);
    CHECK(error(core.set_adjust(rest, 0x1000)) == IoasidErrc::no_space);
    REQUIRE(core.set_adjust(set, 0xfe000));
    REQUIRE(core.set_adjust(rest, 0x1fff));
    REQUIRE(core.alloc(rest, HostPasid{1}, HostPasid{9}));
    CHECK(error(core.set_adjust(rest, 0)) == IoasidErrc::invalid);
    REQUIRE(core.set_free(set));
    CHECK(core.available() == 0xfe000);
}

TEST_CASE("R8 free_all frees every id of the set and nothing else") {
    Ioasids ids;
    std::vector<HostPasid> mine;
    for (int i = 0; i < 5; ++i)
        mine.push_back(*ids.alloc(ids.a));
    const auto other = *ids.alloc(ids.b);
    REQUIRE(ids.core.get(ids.a, mine[2], IoasidHolder::cpu));
    ids.core.free_all(ids.a);
    CHECK(ids.pending(mine[2]));
    CHECK(ids.used(ids.a) == 1);
    CHECK(ids.references(other) == 1);
    CHECK_FALSE(ids.pending(other));
}

TEST_CASE("R9 the same private number in two sets names two ids") {
    Ioasids ids;
    const auto a = *ids.alloc(ids.a);
    const auto b = *ids.alloc(ids.b);
    REQUIRE(ids.core.attach_spid(ids.a, a, GuestPasid{5}));
    REQUIRE(ids.core.attach_spid(ids.b, b, GuestPasid{5}));
    CHECK(ids.core.find_by_spid(ids.a, GuestPasid{5}) == a);
    CHECK(ids.core.find_by_spid(ids.b, GuestPasid{5}) == b);
    CHECK(a != b);
}

TEST_CASE("R10 in a set a private number and an id name each other at most once") {
    Ioasids ids;
    const auto first = *ids.alloc(ids.a);
    const auto second = *ids.alloc(ids.a);
    REQUIRE(ids.core.attach_spid(ids.a, first, GuestPasid{5}));
    CHECK(error(ids.core.attach_spid(ids.a, second, GuestPasid{5})) == IoasidErrc::exists);
    CHECK(error(ids.core.attach_spid(ids.a, first, GuestPasid{6})) == IoasidErrc::exists);
    CHECK(error(ids.core.attach_spid(ids.a, second, GuestPasid{0x100000})) == IoasidErrc::invalid);
    REQUIRE(ids.core.detach_spid(ids.a, first));
    CHECK(ids.core.attach_spid(ids.a, second, GuestPasid{5}));
}

TEST_CASE("R11 a private number without a live id fails at look-up") {
    Ioasids ids;
    CHECK(error(ids.core.find_by_spid(ids.a, GuestPasid{5}, IoasidHolder::device)) == IoasidErrc::not_found);
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{5}));
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::cpu));
    ids.core.free(ids.a, id);
    CHECK(error(ids.core.find_by_spid(ids.a, GuestPasid{5}, IoasidHolder::device)) == IoasidErrc::not_found);
    ids.core.put(ids.a, id, IoasidHolder::cpu);
    CHECK(error(ids.core.find_by_spid(ids.a, GuestPasid{5}, IoasidHolder::device)) == IoasidErrc::not_found);
}

TEST_CASE("R12 free succeeds whatever the others hold") {
    Ioasids ids;
    const auto id = *ids.alloc(ids.a);
    for (const auto holder : {IoasidHolder::iommu, IoasidHolder::cpu, IoasidHolder::device, IoasidHolder::other})
        REQUIRE(ids.core.get(ids.a, id, holder));
    REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{1}));
    REQUIRE(ids.core.bind(ids.a, id));
    ids.core.free(ids.a, id);
    CHECK(ids.pending(id));
    CHECK(ids.core.info(id)->references[static_cast<unsigned>(IoasidHolder::owner)] == 0);
}

TEST_CASE("R13 an id being freed is not given out until the last reference is gone") {
    Ioasids ids{3, 1};
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::iommu));
    ids.core.free(ids.a, id);
    CHECK(ids.pending(id));
    CHECK(*ids.alloc(ids.b) != id);
    ids.core.put(ids.a, id, IoasidHolder::iommu);
    CHECK(ids.references(id) == 0);
    CHECK(*ids.alloc(ids.a) == id);
}

TEST_CASE("R14 free without other references reclaims at once, without an event") {
    Ioasids ids;
    Subscriber subscriber;
    const auto registration = ids.core.add_notifier(IoasidPriority::cpu, subscriber);
    const auto id = *ids.alloc(ids.a);
    ids.core.free(ids.a, id);
    CHECK(ids.references(id) == 0);
    CHECK(subscriber.heard == Heard{"alloc 1"});
}

TEST_CASE("R15 an id being freed is found by nobody, and references stay good") {
    Ioasids ids;
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.attach_data(ids.a, id, std::make_shared<int>(3)));
    REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{1}));
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
    ids.core.free(ids.a, id);
    CHECK(error(ids.core.get(ids.a, id, IoasidHolder::cpu)) == IoasidErrc::not_found);
    CHECK(error(ids.core.find(ids.a, id)) == IoasidErrc::not_found);
    CHECK(error(ids.core.find_by_spid(ids.a, GuestPasid{1})) == IoasidErrc::not_found);
    CHECK(ids.references(id) == 1);
}

TEST_CASE("R16 a second free, and a free of nothing, do nothing") {
    Ioasids ids;
    Subscriber subscriber;
    const auto registration = ids.core.add_notifier(IoasidPriority::cpu, subscriber);
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
    ids.core.free(ids.a, id);
    ids.core.free(ids.a, id);
    ids.core.free(ids.b, id);
    ids.core.free(ids.a, HostPasid{0});
    ids.core.free(ids.a, HostPasid{99});
    ids.core.free(ids.a, HostPasid{~0U});
    CHECK(subscriber.heard == Heard{"alloc 1", "free 1"});
    CHECK(ids.references(id) == 1);
}

TEST_CASE("R17 the last put reclaims, and the number's next life is clean") {
    Ioasids ids;
    const auto data = std::make_shared<int>(3);
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.attach_data(ids.a, id, data));
    REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{5}));
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
    REQUIRE(ids.core.bind(ids.a, id));
    ids.core.free(ids.a, id);
    ids.core.put(ids.a, id, IoasidHolder::device);
    CHECK(data.use_count() == 1);
    REQUIRE(*ids.alloc(ids.b) == id);
    const auto info = *ids.core.info(id);
    CHECK(info.total() == 1);
    CHECK(info.binds == 0);
    CHECK_FALSE(info.spid);
    CHECK_FALSE(info.free_pending);
    CHECK(*ids.core.find(ids.b, id) == nullptr);
}

TEST_CASE("R18 who holds no reference cannot drop one") {
    Ioasids ids;
    Subscriber careless{[](const Event& event, iommu::IoasidContext& context) {
        if (event.change == Event::Change::free)
            context.put(IoasidHolder::cpu);
    }};
    const auto registration = ids.core.add_notifier(IoasidPriority::cpu, careless);
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
    ids.core.put(ids.a, id, IoasidHolder::iommu);
    ids.core.free(ids.a, id);
    CHECK(ids.core.refused_puts() == 2);
    CHECK(ids.references(id) == 1);
    CHECK(ids.pending(id));
}

} // namespace inox::iommu_ioasid_rules_test
