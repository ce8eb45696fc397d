// SPDX-License-Identifier: Apache-2.0
// Domains, who is in them and what they map, over a save and a restore.
#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "vmm/base/state.hpp"

namespace inox::iommu_state_test {

using fakes::IommuWorld;
using iommu::DomainId;
using iommu::Status;
using nlohmann::json;
using W = IommuWorld;

namespace {

struct World : IommuWorld {
    explicit World(const iommu::Limits& limits = {}, bool bypass = false) : IommuWorld{limits, bypass, false} {}
    json save() {
        inox::State out;
        domains.state(out);
        return out.take();
    }
    Result<void> restore(json value) {
        inox::State in{std::move(value), "iommu"};
        domains.state(in);
        return in.result();
    }
};

void fill(World& world) {
    REQUIRE(world.attach(7, W::disk) == Status::ok);
    for (std::uint64_t at = 0; at < 300; ++at) // several chunks of the table
        REQUIRE(world.map(7, 2 * at, 2 * at, at % 512, at % 3 == 0 ? W::read : W::read | W::write) == Status::ok);
    REQUIRE(world.map(7, 1000, 1003, 32) == Status::ok);
    REQUIRE(world.attach(9, W::net, true) == Status::ok);
    world.domains.driver_ready();
}

} // namespace

TEST_CASE("restored endpoints reach what they reached, and nothing else") {
    World old;
    fill(old);
    const auto saved = old.save();
    World fresh;
    REQUIRE(fresh.restore(saved));
    CHECK(fresh.save() == saved);
    CHECK(fresh.domains.has_driver());
    CHECK(fresh.mappings(7) == 301);
    CHECK(fresh.state(W::disk) == W::State::attached);
    for (std::uint64_t at = 0; at < 1010; ++at)
        for (const Access access : {Access::read, Access::write})
            CHECK(fresh.reach(at, access) == old.reach(at, access));
    CHECK(fresh.unmap(7, 1000, 1003) == Status::ok);
    CHECK_FALSE(fresh.reach(1001));
    CHECK(fresh.detach(7, W::disk) == Status::ok);
    CHECK(fresh.domains.domains().size() == 1);
}

TEST_CASE("bypass is restored") {
    World old{{}, true};
    REQUIRE(old.attach(1, W::disk) == Status::ok);
    World fresh;
    CHECK(fresh.state(W::net) == W::State::blocked);
    REQUIRE(fresh.restore(old.save()));
    CHECK(fresh.domains.bypass());
    CHECK(fresh.state(W::net) == W::State::bypassed);
    CHECK_FALSE(fresh.reach(0));
}

TEST_CASE("domains that this IOMMU could not have come to are refused") {
    World old;
    fill(old);
    const auto saved = old.save();
    World narrow{{.mappings = 300}};
    CHECK_FALSE(narrow.restore(saved));
    World few{{.domains = 1}};
    CHECK_FALSE(few.restore(saved));
    World used;
    REQUIRE(used.attach(1, W::disk) == Status::ok);
    CHECK_FALSE(used.restore(saved));

    const auto refused = [&](auto&& change) {
        json wrong = saved;
        change(wrong["domains"][0]);
        World fresh;
        return !fresh.restore(wrong);
    };
    const auto byte = [](json& domain, std::size_t at, std::uint8_t value) {
        domain["mappings"].get_binary().at(at) = value;
    };
    CHECK(refused([](json& domain) { domain["endpoints"][0]["id"] = 0x999U; }));
    CHECK(refused([](json& domain) { domain["endpoints"] = json::array(); }));
    CHECK(refused([](json& domain) { domain["id"] = 0x10000U; }));
    CHECK(refused([](json& domain) { domain["bypass"] = true; }));
    CHECK(refused([&](json& domain) { byte(domain, 0, 1); }));     // not at a page
    CHECK(refused([&](json& domain) { byte(domain, 25, 0); }));    // overlaps the one before
    CHECK(refused([&](json& domain) { byte(domain, 23, 0x80); })); // outside RAM
    CHECK(refused([&](json& domain) { byte(domain, 16, 0x80); })); // an unknown flag
    CHECK(refused([](json& domain) { domain["mappings"].get_binary().pop_back(); }));
    CHECK_FALSE(refused([](json&) {}));
}

} // namespace inox::iommu_state_test
