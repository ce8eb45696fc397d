// SPDX-License-Identifier: Apache-2.0
// PASIDs through the IOMMU's queues: requests to the device, and faults on the event queue.
#include "devices/virtio/iommu.hpp"
#include "iommu/pasid/pasid_requests.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/pasid_guest.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_iommu_pasid_test {

using namespace devices::virtio;
using fakes::PasidGuest;
using iommu::Status;
namespace wire = iommu::wire;

namespace {

struct Guest {
    PasidGuest pasids{};
    iommu::Domains domains{pasids.memory, {}, true};
    iommu::PasidRequests requests{*pasids.service};
    EventLoop loop{};
    fakes::VirtioDriver driver{};
    std::shared_ptr<Iommu> device{Iommu::create(domains, loop, &requests)};

    explicit Guest(std::uint64_t features) {
        log::set_level(log::Level::off);
        driver.activate(*device, features | feature::version_1);
    }
    ~Guest() {
        device->reset();
        log::set_level(log::Level::warning);
    }
    /// The status, with the result before it; nullopt when the device does not answer.
    template <class T> std::optional<Status> send(wire::PasidType type, T request, std::uint32_t* result = nullptr) {
        request.head.type = static_cast<std::uint8_t>(type);
        const std::size_t room = result ? 8 : 4;
        const auto pieces = driver[0].chain().readable(request).writable(static_cast<std::uint32_t>(room)).post();
        device->kick(0);
        const auto used = driver[0].used();
        if (!used || used->length != room)
            return std::nullopt;
        if (result)
            *result = driver.ram.get<std::uint32_t>(pieces[1].address);
        return static_cast<Status>(driver.ram.get<std::uint8_t>(pieces[1].address + room - 4));
    }
};

constexpr std::uint64_t accepted = wire::feature::private_requests;

} // namespace

TEST_CASE("a driver that accepted private requests allocates, binds and frees by the request queue") {
    Guest guest{accepted};
    CHECK((guest.device->features() & wire::feature::private_requests) != 0);
    std::uint32_t pasid = 0;
    REQUIRE(guest.send(wire::PasidType::alloc, wire::PasidAlloc{}, &pasid) == Status::ok);
    CHECK(pasid == 1);
    const wire::PasidBind bind{{}, PasidGuest::endpoint.raw(), pasid, 0, 0x100000};
    REQUIRE(guest.send(wire::PasidType::bind, bind) == Status::ok);
    CHECK(guest.send(wire::PasidType::bind, bind) == Status::invalid);
    CHECK(guest.pasids.service->submit(iommu::GuestPasid{pasid}));
    CHECK(guest.send(wire::PasidType::free, wire::PasidFree{{}, 9}) == Status::no_entry);
    SECTION("freed") { CHECK(guest.send(wire::PasidType::free, wire::PasidFree{{}, pasid}) == Status::ok); }
    SECTION("or the device reset") { guest.device->reset(); }
    CHECK(guest.pasids.clean());
}

TEST_CASE("a driver that did not is not answered") {
    Guest guest{0};
    CHECK_FALSE(guest.send(wire::PasidType::free, wire::PasidFree{{}, 1}));
}

TEST_CASE("an event names the PASID to a driver that knows of them") {
    for (const bool knows : {true, false}) {
        Guest guest{knows ? accepted : 0};
        const auto pieces = guest.driver[1].chain().writable(24).post();
        guest.domains.faults().report({PasidGuest::endpoint, iommu::Fault::Reason::mapping, Access::write, Iova{0x5000},
                                       iommu::GuestPasid{0x12345}});
        REQUIRE(tests::run_until(guest.loop, [&] { return guest.device->faults_told() == 1; }));
        const auto record = guest.driver.ram.get<wire::FaultRecord>(pieces[0].address);
        CHECK(record.reason == 2);
        CHECK(record.flags == (0x102U | (knows ? 0x200U : 0U)));
        CHECK(record.endpoint == PasidGuest::endpoint.raw());
        CHECK(record.pasid == (knows ? 0x12345U : 0U));
        CHECK(record.address == 0x5000);
        CHECK(record.zero == std::array<std::uint8_t, 3>{});
    }
}

} // namespace inox::virtio_iommu_pasid_test
