// SPDX-License-Identifier: Apache-2.0
// The rules of the IOASID core that concern binding, events and allocators.
#include <atomic>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/ioasid_actors.hpp"

namespace inox::iommu_ioasid_events_test {

using namespace fakes::ioasid_words;

TEST_CASE("R19 only the first bind and the last unbind are told") {
    Ioasids ids;
    Subscriber subscriber;
    const auto registration = ids.core.add_notifier(ids.a, IoasidPriority::cpu, subscriber);
    const auto id = *ids.alloc(ids.a);
    for (int i = 0; i < 3; ++i)
        REQUIRE(ids.core.bind(ids.a, id));
    REQUIRE(ids.core.unbind(ids.a, id));
    REQUIRE(ids.core.unbind(ids.a, id));
    CHECK(subscriber.heard == Heard{"alloc 1", "bind 1"});
    REQUIRE(ids.core.unbind(ids.a, id));
    CHECK(subscriber.heard == Heard{"alloc 1", "bind 1", "unbind 1"});
    CHECK(error(ids.core.unbind(ids.a, id)) == IoasidErrc::not_found);
}

TEST_CASE("R26 events are alloc, bind, unbind and free, each of one id") {
    Ioasids ids;
    std::vector<std::uint32_t> spids;
    Subscriber subscriber{[&](const Event& event, iommu::IoasidContext& context) {
        spids.push_back(event.spid ? event.spid->raw() : 0);
        if (event.change == Event::Change::bind)
            CHECK(context.get(IoasidHolder::cpu));
        else if (event.change == Event::Change::free)
            context.put(IoasidHolder::cpu);
    }};
    const auto registration = ids.core.add_notifier(IoasidPriority::cpu, subscriber);
    for (const unsigned spid : {5U, 6U}) {
        const auto id = *ids.alloc(ids.a);
        REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{spid}));
        REQUIRE(ids.core.bind(ids.a, id));
        REQUIRE(ids.core.unbind(ids.a, id));
    }
    ids.core.free_all(ids.a);
    const Heard first{"alloc 1", "bind 1", "unbind 1", "alloc 2", "bind 2", "unbind 2"};
    REQUIRE(subscriber.heard.size() == 8);
    CHECK(std::equal(first.begin(), first.end(), subscriber.heard.begin()));
    CHECK(spids == std::vector<std::uint32_t>{0, 5, 5, 0, 6, 6, 6, 5});
    CHECK(ids.used(ids.a) == 0);
}

TEST_CASE("R27 within an event the order is CPU, device, IOMMU, last") {
    Ioasids ids;
    std::string order;
    const auto say = [&](char letter) {
        return [&order, letter](const Event&, iommu::IoasidContext&) { order += letter; };
    };
    Subscriber last{say('l')}, iommu{say('i')}, cpu{say('c')}, device{say('d')}, second_cpu{say('C')};
    // Registered in the wrong order and in different scopes.
    const auto r1 = ids.core.add_notifier(IoasidPriority::last, last);
    const auto r2 = ids.core.add_notifier(ids.a, IoasidPriority::iommu, iommu);
    const auto r3 = ids.core.add_notifier(IoasidPriority::device, device);
    const auto r4 = ids.core.add_notifier(ids.a, IoasidPriority::cpu, cpu);
    const auto r5 = ids.core.add_notifier(IoasidPriority::cpu, second_cpu);
    REQUIRE(ids.alloc(ids.a));
    CHECK(order == "cCdil");
}

TEST_CASE("R28 a global subscriber hears all ids, a set's subscriber its own") {
    Ioasids ids;
    Subscriber all, of_b;
    const auto r1 = ids.core.add_notifier(IoasidPriority::last, all);
    const auto r2 = ids.core.add_notifier(ids.b, IoasidPriority::cpu, of_b);
    REQUIRE(ids.alloc(ids.a));
    REQUIRE(ids.alloc(ids.b));
    CHECK(all.heard == Heard{"alloc 1", "alloc 2"});
    CHECK(of_b.heard == Heard{"alloc 2"});
    CHECK(error(ids.core.add_notifier(ids.b, IoasidPriority::last, of_b)) == IoasidErrc::busy);
}

TEST_CASE("R29 a handler has its context only; a look-up elsewhere does not wait for it") {
    Ioasids ids;
    std::atomic<bool> inside{false}, looked_up{false};
    Subscriber subscriber{[&](const Event& event, iommu::IoasidContext& context) {
        if (event.change != Event::Change::bind)
            return;
        CHECK(context.get(IoasidHolder::cpu));
        CHECK(error(ids.alloc(ids.a)) == IoasidErrc::in_handler);
        CHECK(error(ids.core.bind(ids.a, event.id)) == IoasidErrc::in_handler);
        CHECK(error(ids.core.unbind(ids.a, event.id)) == IoasidErrc::in_handler);
        CHECK(error(ids.core.add_notifier(IoasidPriority::cpu, subscriber)) == IoasidErrc::in_handler);
        ids.core.free(ids.a, event.id); // is ignored
        inside = true;
        while (!looked_up) // would not end if the look-up waited for the handler
            std::this_thread::yield();
    }};
    const auto registration = ids.core.add_notifier(IoasidPriority::cpu, subscriber);
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{5}));
    std::thread other{[&] {
        while (!inside)
            std::this_thread::yield();
        CHECK(ids.core.find_by_spid(ids.a, GuestPasid{5}, IoasidHolder::device) == id);
        CHECK(ids.core.find(ids.a, id));
        CHECK(ids.core.get(ids.a, id, IoasidHolder::iommu));
        ids.core.put(ids.a, id, IoasidHolder::iommu);
        looked_up = true;
    }};
    REQUIRE(ids.core.bind(ids.a, id));
    other.join();
    CHECK(ids.references(id) == 3);
    CHECK_FALSE(ids.pending(id));
}

TEST_CASE("R32 an id is marked before the first handler of its freeing runs") {
    Ioasids ids;
    Subscriber subscriber{[&](const Event& event, iommu::IoasidContext& context) {
        if (event.change != Event::Change::free)
            return;
        CHECK(ids.pending(event.id));
        CHECK(error(context.get(IoasidHolder::cpu)) == IoasidErrc::not_found);
        CHECK(error(ids.core.find_by_spid(ids.a, GuestPasid{5})) == IoasidErrc::not_found);
    }};
    const auto registration = ids.core.add_notifier(IoasidPriority::cpu, subscriber);
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.attach_spid(ids.a, id, GuestPasid{5}));
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
    ids.core.free(ids.a, id);
    CHECK(subscriber.heard == Heard{"alloc 1", "free 1"});
}

TEST_CASE("R33 a subscription to a token waits for its set") {
    Ioasids ids;
    Subscriber subscriber;
    const auto registration = ids.core.add_notifier(IoasidToken{process, 77}, IoasidPriority::cpu, subscriber);
    REQUIRE(registration);
    REQUIRE(ids.alloc(ids.a));
    CHECK(subscriber.heard.empty());
    auto set = *ids.core.set_alloc({process, 77}, 4);
    REQUIRE(ids.alloc(set));
    CHECK(subscriber.heard == Heard{"alloc 2"});
    ids.core.free_all(set);
    REQUIRE(ids.core.set_free(set));
    set = *ids.core.set_alloc({process, 77}, 4); // it applies to the next set, too
    REQUIRE(ids.alloc(set));
    CHECK(subscriber.heard == Heard{"alloc 2", "alloc 2"});
}

TEST_CASE("R34 past events are not replayed, and a token whose set has ids is refused") {
    Ioasids ids;
    Subscriber late;
    const auto set = *ids.core.set_alloc({process, 77}, 4);
    const auto id = *ids.alloc(set);
    CHECK(error(ids.core.add_notifier(IoasidToken{process, 77}, IoasidPriority::cpu, late)) == IoasidErrc::busy);
    const auto registration = ids.core.add_notifier(set, IoasidPriority::cpu, late);
    CHECK(late.heard.empty());
    ids.core.free(set, id);
    CHECK(ids.core.add_notifier(IoasidToken{process, 77}, IoasidPriority::cpu, late));
}

TEST_CASE("R35 alloc is told when the id can be seen, with one reference") {
    Ioasids ids;
    unsigned references = 0;
    Subscriber subscriber{[&](const Event& event, iommu::IoasidContext&) {
        references = ids.references(event.id);
        CHECK(ids.core.find(ids.a, event.id));
    }};
    const auto registration = ids.core.add_notifier(IoasidPriority::cpu, subscriber);
    REQUIRE(ids.alloc(ids.a));
    CHECK(references == 1);
}

TEST_CASE("R49 a registered allocator is used instead of the own pool, but not while that has ids out") {
    Ioasids ids;
    fakes::ListAllocator allocator, second;
    const auto id = *ids.alloc(ids.a);
    CHECK(error(ids.core.add_allocator(allocator)) == IoasidErrc::again);
    ids.core.free(ids.a, id);
    REQUIRE(ids.core.add_allocator(allocator));
    CHECK(error(ids.core.add_allocator(allocator)) == IoasidErrc::exists);
    REQUIRE(ids.core.add_allocator(second));
    allocator.next = {50, 50, 9};
    CHECK(*ids.alloc(ids.a) == HostPasid{50});
    CHECK(error(ids.alloc(ids.a)) == IoasidErrc::no_space);         // releases a number that is in use
    CHECK(error(ids.alloc(ids.a, 10, 20)) == IoasidErrc::no_space); // and one outside the range
    CHECK(allocator.released == std::vector<std::uint32_t>{50, 9});
    CHECK(ids.used(ids.a) == 1);
    CHECK(error(ids.core.remove_allocator(allocator)) == IoasidErrc::busy);
    ids.core.free(ids.a, HostPasid{50});
    CHECK(allocator.released.back() == 50);
    REQUIRE(ids.core.remove_allocator(allocator));
    CHECK(error(ids.core.remove_allocator(allocator)) == IoasidErrc::not_found);
    second.next = {70};
    CHECK(*ids.alloc(ids.a) == HostPasid{70});
}

TEST_CASE("R50 numbers are system-wide: two sets never have the same one") {
    Ioasids ids{40, 20};
    std::vector<bool> seen(41);
    for (int i = 0; i < 20; ++i)
        for (const auto& set : {ids.a, ids.b}) {
            const auto id = *ids.alloc(set);
            CHECK_FALSE(seen[id.raw()]);
            seen[id.raw()] = true;
        }
    CHECK_FALSE(seen[0]);
}

} // namespace inox::iommu_ioasid_events_test
