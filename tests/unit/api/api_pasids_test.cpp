// SPDX-License-Identifier: Apache-2.0
// What the operator sees of PASIDs, and whether it agrees with the contract.
#include "api/json_tables.hpp"
#include "api/json_views.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/pasid_guest.hpp"
#include "tests/support/contract.hpp"
#include "vmm/machine/pasids.hpp"

namespace inox::api_pasids_test {

using iommu::PasidStatus;
using nlohmann::ordered_json;

namespace {

struct Shown {
    MemoryBus bus{};
    GuestMemory memory{GuestMemory::create(16 * MiB, HugePages::none).value()};
    std::unique_ptr<Pasids> pasids{Pasids::create(memory, bus, 6000).value()};
    Registration accelerator{pasids->service().add_endpoint(iommu::EndpointId{0x18}, {.name = "dsa"}).value()};
    Registration card{
        pasids->service().add_endpoint(iommu::EndpointId{0x20}, {.name = "nic", .refusal = "no PASIDs"}).value()};

    ordered_json json() {
        auto json = api::pasids_json(pasids->view());
        const tests::Contract contract;
        CHECK(contract.check(nlohmann::json::parse(json.dump()),
                             contract.root().at("components").at("schemas").at("Pasids"), "") == "");
        return json;
    }
};

} // namespace

TEST_CASE("PASIDs are shown with who holds references to them") {
    Shown shown;
    auto& service = shown.pasids->service();
    CHECK(shown.json().at("ids").empty());
    iommu::GuestPasid pasid;
    REQUIRE(service.alloc(pasid) == PasidStatus::ok);
    CHECK(
        shown.json().at("ids").dump() ==
        R"([{"host":32768,"guest":1,"set":1,"state":"idle","references":[{"holder":"guest driver","count":1}],"bound":[]}])");
    REQUIRE(service.bind(iommu::EndpointId{0x18}, pasid, {.root = 0x5000}) == PasidStatus::ok);
    const auto host = *service.acquire(pasid);
    REQUIRE(service.acquire(host));
    const auto bound = shown.json();
    CHECK(bound.at("ids").at(0).at("state") == "active");
    CHECK(bound.at("ids").at(0).at("bound").dump() == R"(["dsa"])");
    CHECK(bound.at("ids").at(0).at("references").dump() ==
          R"([{"holder":"guest driver","count":1},{"holder":"address spaces","count":1},)"
          R"({"holder":"translation table","count":1},{"holder":"dsa","count":2}])");
    const auto text = api::table_text(api::View::pasids, bound.dump());
    CHECK(text.find("guest driver 1, address spaces 1, translation table 1, dsa 2") != std::string::npos);
    CHECK(text.find("no      no PASIDs") != std::string::npos);
    CHECK(bound.at("table").dump() == R"([{"guest":1,"host":32768}])");
    REQUIRE(service.free(pasid) == PasidStatus::ok);
    const auto freed = shown.json();
    CHECK(freed.at("ids").dump() == R"([{"host":32768,"guest":null,"set":1,"state":"free pending",)"
                                    R"("references":[{"holder":"dsa","count":2}],"bound":[]}])");
    CHECK(freed.at("table").empty());
    CHECK(freed.at("sets").at(0).at("used") == 1);
    service.release(host);
    service.release(host);
    CHECK(shown.json().at("ids").empty());
}

TEST_CASE("devices are shown with why they have no PASIDs, and refused accesses are counted") {
    Shown shown;
    const auto json = shown.json();
    CHECK(json.at("endpoints").dump() ==
          R"([{"id":24,"device":"dsa","assigned":false,"pasids":true,"reason":null},)"
          R"({"id":32,"device":"nic","assigned":true,"pasids":false,"reason":"no PASIDs"}])");
    auto& service = shown.pasids->service();
    iommu::GuestPasid pasid;
    REQUIRE(service.alloc(pasid) == PasidStatus::ok);
    CHECK(service.bind(iommu::EndpointId{0x20}, pasid, {.root = 0x5000}) == PasidStatus::unknown_endpoint);
    REQUIRE(service.bind(iommu::EndpointId{0x18}, pasid, {.root = 0x5000}) == PasidStatus::ok);
    CHECK_FALSE(service.memory(iommu::EndpointId{0x18}, *service.core().find_by_spid(service.set(), pasid))
                    ->read<std::uint32_t>(Iova{0}));
    CHECK(shown.json().at("counters").at("faults") == 1);
}

TEST_CASE("more PASIDs than one answer shows are there page by page") {
    Shown shown;
    auto& service = shown.pasids->service();
    for (int i = 0; i < 6000; ++i) {
        iommu::GuestPasid pasid;
        REQUIRE(service.alloc(pasid) == PasidStatus::ok);
    }
    const auto whole = shown.json();
    CHECK(whole.at("ids").size() == 1000);
    CHECK(whole.at("id_count") == 6000);
    const auto all = shown.pasids->view(0, 6000);
    REQUIRE(all.ids.size() == 6000);
    for (const std::size_t skip : {0U, 1U, 999U, 4096U, 5999U, 6000U, 7000U}) {
        const auto part = shown.pasids->view(skip, 2);
        CHECK(part.ids.size() == std::min<std::size_t>(2, 6000 - std::min<std::size_t>(skip, 6000)));
        for (std::size_t i = 0; i < part.ids.size(); ++i)
            CHECK(part.ids[i].host == all.ids[skip + i].host);
    }
}

} // namespace inox::api_pasids_test
