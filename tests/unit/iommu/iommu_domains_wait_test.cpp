// SPDX-License-Identifier: Apache-2.0
// While a host takes long to map for one endpoint, emulated endpoints are added and removed and operators look.
#include <future>
#include <semaphore>
#include <thread>

#include "iommu/domains.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"

namespace inox::iommu_domains_wait_test {

using fakes::IommuWorld;
using iommu::EndpointId;
using iommu::Status;
using W = IommuWorld;

namespace {

/// A host whose next call waits until the test releases it.
struct SlowHost {
    explicit SlowHost(fakes::RecordingMapper& mapper) : mapper_{mapper} {
        mapper.on_call = [this] {
            if (std::exchange(waited, true))
                return;
            entered.release();
            go_on.acquire();
        };
    }
    SlowHost(const SlowHost&) = delete;
    SlowHost& operator=(const SlowHost&) = delete;
    ~SlowHost() { mapper_.on_call = nullptr; }
    bool waited{false};
    std::binary_semaphore entered{0};
    std::binary_semaphore go_on{0};

private:
    fakes::RecordingMapper& mapper_;
};

/// Whether `work` ends while the host waits.
bool ends(const std::function<void()>& work, SlowHost& host) {
    auto done = std::async(std::launch::async, work);
    const bool ended = done.wait_for(std::chrono::seconds{5}) == std::future_status::ready;
    if (!ended)
        host.go_on.release();
    done.wait();
    return ended;
}

} // namespace

TEST_CASE("emulated endpoints come and go while a host maps for an assigned one") {
    IommuWorld world{{}, true};
    REQUIRE(world.attach(1, W::nvme) == Status::ok);
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    REQUIRE(world.map(1, 0, 3) == Status::ok);
    SlowHost host{world.nvme_host};
    const auto what = GENERATE(as<std::string>{}, "map", "unmap", "detach", "attach", "bypass", "reset", "leave");
    CAPTURE(what);
    if (what == "attach") // what it had is unmapped first
        REQUIRE(world.attach(2, W::net) == Status::ok);
    if (what == "bypass") // asks the host of the endpoint that is in no domain
        world.nic_host.on_call = std::exchange(world.nvme_host.on_call, nullptr);
    Status answer = Status::ok;
    std::jthread guest{[&] {
        if (what == "map")
            answer = world.map(1, 8, 11);
        else if (what == "unmap")
            answer = world.unmap(1, 0, 3);
        else if (what == "detach")
            answer = world.detach(1, W::nvme);
        else if (what == "attach")
            answer = world.attach(2, W::nvme);
        else if (what == "bypass")
            world.domains.set_bypass(false);
        else if (what == "reset")
            world.domains.reset();
        else
            world.stays.front().reset(); // the registration of nvme
    }};
    host.entered.acquire();
    auto memory = world.domains.make_memory();
    Registration stay;
    CHECK(ends([&] { stay = *world.domains.add_endpoint(EndpointId{0x30}, "rng", *memory); }, host));
    CHECK(ends([&] { world.domains.in_use(EndpointId{0x30}); }, host));
    std::vector<iommu::ReservedRegion> reserved;
    CHECK(ends([&] { (void)world.domains.probe(EndpointId{0x30}, reserved); }, host));
    CHECK(ends([&] { (void)world.domains.endpoints(); }, host));
    CHECK(ends([&] { (void)world.domains.mappings(iommu::DomainId{1}, Iova{0}, 10); }, host));
    CHECK(ends([&] { stay.reset(); }, host));
    CHECK(ends([&] { world.stays.pop_back(); }, host)); // that of net, in domain 2 or in none
    CHECK(ends([&] { world.stays.pop_back(); }, host)); // that of disk, in the domain that the guest changes
    host.go_on.release();
    guest.join();
    CHECK(answer == Status::ok);
    if (what == "attach")
        CHECK(world.domains.domains().size() == 1); // the domain stays although its only endpoint was removed
    if (what == "map")
        CHECK(world.mappings(1) == 2);
}

} // namespace inox::iommu_domains_wait_test
