// SPDX-License-Identifier: Apache-2.0
// A guest's PASIDs over a save and a restore: its numbers and bindings stay, the host's numbers are others on purpose.
#include "iommu/pasid/pasid_service.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/pasid_guest.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/state.hpp"

namespace inox::iommu_pasid_state_test {

using fakes::PasidGuest;
using iommu::GuestPasid;
using iommu::PasidStatus;
using iommu::PasidWay;
using nlohmann::json;

namespace {

/// PASIDs 1 (bound twice), 3 (not bound) and 77 (by a request); 2 was freed.
void use(PasidGuest& guest) {
    for (int i = 0; i < 3; ++i)
        REQUIRE(guest.alloc().raw() != 0);
    REQUIRE(guest.service->free(GuestPasid{2}) == PasidStatus::ok);
    GuestPasid wanted{77};
    REQUIRE(guest.service->alloc(wanted, wanted, PasidWay::requests) == PasidStatus::ok);
    auto table = PasidGuest::bound(guest.tables(0));
    REQUIRE(guest.service->bind(PasidGuest::endpoint, GuestPasid{1}, table) == PasidStatus::ok);
    table.privileged = table.write_protect = true;
    REQUIRE(guest.service->bind(PasidGuest::other_endpoint, GuestPasid{1}, table) == PasidStatus::ok);
    REQUIRE(guest.service->bind(PasidGuest::endpoint, GuestPasid{77}, table) == PasidStatus::ok);
}

} // namespace

TEST_CASE("a restored guest has its PASIDs and bindings, at other numbers of the host's") {
    PasidGuest old;
    use(old);
    const auto saved = tests::save(*old.service);
    PasidGuest fresh;
    REQUIRE(tests::restore(*fresh.service, saved));
    CHECK(fresh.service->set_info().used == 3);
    for (const std::uint32_t number : {1U, 3U, 77U}) {
        const GuestPasid guest{number};
        CHECK(fresh.host(guest).raw() != 0);
        CHECK(fresh.host(guest) != old.host(guest));
        CHECK(fresh.service->submit(guest).has_value() == old.service->submit(guest).has_value());
    }
    CHECK(fresh.service->submit(GuestPasid{77})->host() == fresh.host(GuestPasid{77}));
    CHECK_FALSE(fresh.service->submit(GuestPasid{3}));
    CHECK(fresh.service->memory(PasidGuest::other_endpoint, fresh.host(GuestPasid{1}), true));
    CHECK(fresh.alloc() == GuestPasid{2});
    CHECK(fresh.service->unbind(PasidGuest::endpoint, GuestPasid{1}) == PasidStatus::ok);
    CHECK(fresh.service->bind(PasidGuest::other_endpoint, GuestPasid{1}, {}) == PasidStatus::bound);
    fresh.service->reset_requests();
    CHECK(fresh.host(GuestPasid{77}).raw() == 0);
    CHECK(fresh.host(GuestPasid{1}).raw() != 0);

    auto again = tests::save(*fresh.service);
    PasidGuest third;
    REQUIRE(tests::restore(*third.service, again));
    CHECK(third.host(GuestPasid{1}) != fresh.host(GuestPasid{1}));
    fresh.service->reset();
    CHECK(fresh.clean());
}

TEST_CASE("PASIDs that this machine cannot have are refused") {
    PasidGuest old;
    use(old);
    const auto saved = tests::save(*old.service);
    PasidGuest poor{2};
    CHECK_FALSE(tests::restore(*poor.service, saved));
    CHECK_FALSE(tests::restore(*old.service, saved)); // is in use
    PasidGuest lonely;
    lonely.endpoints.pop_back();
    CHECK_FALSE(tests::restore(*lonely.service, saved));
    auto twice = saved;
    twice["pasids"][1]["guest"] = 1U;
    PasidGuest fresh;
    CHECK_FALSE(tests::restore(*fresh.service, twice));
}

TEST_CASE("damage to the state of PASIDs does no harm") {
    const tests::LogCapture log;
    PasidGuest old;
    use(old);
    tests::for_each_damage(tests::save(*old.service), [](const json& damaged, bool must_fail) {
        PasidGuest fresh;
        const bool taken = tests::restore(*fresh.service, damaged).has_value();
        CHECK_FALSE((taken && must_fail));
        fresh.service->reset();
        CHECK(fresh.clean());
    });
}

} // namespace inox::iommu_pasid_state_test
