// SPDX-License-Identifier: Apache-2.0
// Behaviour of the IOASID core that the numbered rules do not cover.
#include <random>
#include <set>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/ioasid_actors.hpp"

namespace inox::iommu_ioasid_test {

using namespace fakes::ioasid_words;

TEST_CASE("a pool gives the lowest free number of a range") {
    for (const std::uint32_t count : {1U, 63U, 64U, 65U, 4096U, 4097U, 300000U}) {
        iommu::IdPool pool{count};
        std::set<std::uint32_t> free;
        for (std::uint32_t i = 0; i < count; ++i)
            free.insert(free.end(), i);
        std::mt19937 random{count};
        for (int i = 0; i < 3000; ++i) {
            const auto min = random() % (count + 2), max = min + random() % 200;
            const auto it = free.lower_bound(static_cast<std::uint32_t>(min));
            const auto wanted = it != free.end() && *it <= max ? std::optional{*it} : std::nullopt;
            const auto got = pool.lowest_free(static_cast<std::uint32_t>(min), static_cast<std::uint32_t>(max));
            REQUIRE(got == wanted);
            if (got && random() % 4 != 0) {
                pool.take(*got);
                free.erase(*got);
            } else if (const auto taken = pool.next_taken(static_cast<std::uint32_t>(min))) {
                REQUIRE_FALSE(free.contains(*taken));
                pool.release(*taken);
                free.insert(*taken);
            }
        }
    }
}

TEST_CASE("allocation takes the lowest free id of the range, whose ends are in it") {
    Ioasids ids{0xfffff, 100};
    CHECK(*ids.alloc(ids.a, 5, 6) == HostPasid{5});
    CHECK(*ids.alloc(ids.b, 5, 6) == HostPasid{6});
    CHECK(ids.alloc(ids.a, 5, 6).error() == IoasidErrc::no_space);
    CHECK(*ids.alloc(ids.a, 0, 5) == HostPasid{1});
    CHECK(*ids.alloc(ids.a, 0xfffff, ~0U) == HostPasid{0xfffff});
    CHECK(ids.alloc(ids.a, 0xfffff, ~0U).error() == IoasidErrc::no_space);
    CHECK(ids.alloc(ids.a, 9, 8).error() == IoasidErrc::invalid);
    CHECK(ids.alloc(ids.a, 0, 0).error() == IoasidErrc::invalid);
    CHECK(ids.alloc(ids.a, 0x100000, ~0U).error() == IoasidErrc::invalid);
}

TEST_CASE("a set with ids goes with the last of them, and takes no new ones") {
    Ioasids ids{100, 10};
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
    CHECK(ids.core.set_free(ids.a).error() == IoasidErrc::busy);
    CHECK(ids.alloc(ids.a).error() == IoasidErrc::invalid);
    CHECK(ids.core.set_adjust(ids.a, 20).error() == IoasidErrc::invalid);
    CHECK(ids.core.sets().size() == 2);
    CHECK(ids.core.sets().front().free_pending);
    ids.core.free(ids.a, id);
    CHECK(ids.core.sets().size() == 2);
    ids.core.put(ids.a, id, IoasidHolder::device);
    CHECK(ids.core.sets().size() == 1);
    CHECK(ids.core.available() == 90);
    CHECK(ids.core.set_free(ids.a).error() == IoasidErrc::not_found);
    CHECK(ids.alloc(ids.a).error() == IoasidErrc::invalid);
}

TEST_CASE("the last put reclaims also an id nobody freed") {
    Ioasids ids;
    const auto id = *ids.alloc(ids.a);
    ids.core.put(ids.a, id, IoasidHolder::owner);
    CHECK(ids.references(id) == 0);
    const auto again = *ids.alloc(ids.a);
    CHECK(again == id);
    REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
    ids.core.put(ids.a, id, IoasidHolder::owner);
    ids.core.free(ids.a, id);
    CHECK(ids.pending(id));
    ids.core.put(ids.a, id, IoasidHolder::device);
    CHECK(ids.used(ids.a) == 0);
}

TEST_CASE("private data is handed out only while it can be had") {
    Ioasids ids;
    const auto id = *ids.core.alloc(ids.a, HostPasid{1}, HostPasid{9}, std::make_shared<int>(7));
    CHECK(*static_cast<int*>(ids.core.find(ids.a, id)->get()) == 7);
    CHECK(ids.core.find(ids.a, id, [](void*) { return false; }).error() == IoasidErrc::not_found);
    CHECK(ids.core.attach_data(ids.a, id, std::make_shared<int>(8)).error() == IoasidErrc::busy);
    REQUIRE(ids.core.attach_data(ids.a, id, nullptr));
    CHECK(*ids.core.find(ids.a, id) == nullptr);
    REQUIRE(ids.core.attach_data(ids.a, id, std::make_shared<int>(8)));
    CHECK(ids.core.attach_data(ids.a, HostPasid{2}, nullptr).error() == IoasidErrc::not_found);
}

TEST_CASE("a private number stays while its id is bound") {
    Ioasids ids;
    const auto id = *ids.alloc(ids.a);
    REQUIRE(ids.core.bind(ids.a, id));
    CHECK(ids.core.attach_spid(ids.a, id, iommu::GuestPasid{3}).error() == IoasidErrc::busy);
    REQUIRE(ids.core.unbind(ids.a, id));
    REQUIRE(ids.core.attach_spid(ids.a, id, iommu::GuestPasid{3}));
    REQUIRE(ids.core.bind(ids.a, id));
    CHECK(ids.core.detach_spid(ids.a, id).error() == IoasidErrc::busy);
}

TEST_CASE("references of a holder do not wrap") {
    Ioasids ids;
    const auto id = *ids.alloc(ids.a);
    for (int i = 0; i < 65535; ++i)
        REQUIRE(ids.core.get(ids.a, id, IoasidHolder::device));
    CHECK(ids.core.get(ids.a, id, IoasidHolder::device).error() == IoasidErrc::no_space);
    CHECK(ids.references(id) == 65536);
}

TEST_CASE("a subscriber may leave inside its handler") {
    Ioasids ids;
    Registration registration;
    fakes::Subscriber once{[&](const fakes::Event&, iommu::IoasidContext&) { registration.reset(); }};
    registration = *ids.core.add_notifier(iommu::IoasidPriority::cpu, once);
    REQUIRE(ids.alloc(ids.a));
    REQUIRE(ids.alloc(ids.a));
    CHECK(once.heard.size() == 1);
}

TEST_CASE("ids of a set are listed in pages, ascending") {
    Ioasids ids{0xfffff, 5000};
    for (int i = 0; i < 3000; ++i) {
        REQUIRE(ids.alloc(ids.a));
        REQUIRE(ids.alloc(ids.b));
    }
    const auto first = ids.core.ids(ids.b, {}, 2000);
    REQUIRE(first.size() == 2000);
    CHECK(first.front().id == HostPasid{2});
    const auto rest = ids.core.ids(ids.b, HostPasid{first.back().id.raw() + 1}, 2000);
    CHECK(rest.size() == 1000);
    CHECK(rest.back().id == HostPasid{6000});
}

TEST_CASE("threads that allocate, refer, bind and free leave nothing behind") {
    Ioasids ids{64, 30};
    fakes::Subscriber cpu{[](const fakes::Event& event, iommu::IoasidContext& context) {
        if (event.change == fakes::Event::Change::bind)
            (void)context.get(IoasidHolder::cpu);
        else if (event.change != fakes::Event::Change::alloc)
            context.put(IoasidHolder::cpu);
    }};
    auto registration = ids.core.add_notifier(iommu::IoasidPriority::cpu, cpu);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            std::mt19937 random{t};
            const auto& set = t % 2 == 0 ? ids.a : ids.b;
            for (int i = 0; i < 2000; ++i) {
                const auto id = ids.alloc(set);
                if (!id)
                    continue;
                (void)ids.core.attach_spid(set, *id, iommu::GuestPasid{static_cast<std::uint32_t>(random() % 1000)});
                const bool held = ids.core.get(set, *id, IoasidHolder::device).has_value();
                (void)ids.core.bind(set, *id);
                if (random() % 2 == 0)
                    (void)ids.core.unbind(set, *id);
                ids.core.free(set, *id);
                if (held)
                    ids.core.put(set, *id, IoasidHolder::device);
            }
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(ids.used(ids.a) == 0);
    CHECK(ids.used(ids.b) == 0);
}

} // namespace inox::iommu_ioasid_test
