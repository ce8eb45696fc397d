// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_requests.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/pasid_guest.hpp"

namespace inox::iommu_pasid_requests_test {

using fakes::PasidGuest;
using iommu::GuestPasid;
using iommu::Status;
namespace wire = iommu::wire;

namespace {

struct Driver {
    explicit Driver(std::uint32_t quota = 16) : guest{quota} {}
    PasidGuest guest;
    iommu::PasidRequests requests{*guest.service};
    wire::PasidAllocAnswer answer{};

    template <class T> Status send(wire::PasidType type, T request) {
        request.head.type = static_cast<std::uint8_t>(type);
        const auto size = requests.answer_size(request.head.type);
        REQUIRE(size);
        return requests.execute(request.head.type, std::as_bytes(std::span{&request, 1}),
                                std::as_writable_bytes(std::span{&answer, 1}).first(*size));
    }
    Status alloc(std::uint32_t wanted = 0) { return send(wire::PasidType::alloc, wire::PasidAlloc{{}, wanted}); }
    Status free(std::uint32_t pasid) { return send(wire::PasidType::free, wire::PasidFree{{}, pasid}); }
    Status bind(std::uint32_t pasid, std::uint64_t table, std::uint32_t flags = 0,
                std::uint32_t endpoint = PasidGuest::endpoint.raw()) {
        return send(wire::PasidType::bind, wire::PasidBind{{}, endpoint, pasid, flags, table});
    }
    Status unbind(std::uint32_t pasid, std::uint32_t reserved = 0) {
        return send(wire::PasidType::unbind, wire::PasidUnbind{{}, PasidGuest::endpoint.raw(), pasid, reserved});
    }
    Status invalidate(std::uint32_t pasid, std::uint32_t flags = 0, std::uint64_t start = 0, std::uint64_t last = 0) {
        return send(wire::PasidType::invalidate,
                    wire::PasidInvalidate{{}, PasidGuest::endpoint.raw(), pasid, flags, start, last});
    }
};

} // namespace

TEST_CASE("requests do what the registers do") {
    Driver driver;
    REQUIRE(driver.alloc() == Status::ok);
    CHECK(driver.answer.pasid == 1);
    REQUIRE(driver.alloc(77) == Status::ok);
    CHECK(driver.answer.pasid == 77);
    CHECK(driver.bind(77, 0x1000, 0xf) == Status::ok);
    CHECK(driver.guest.service->snapshot().pasids[1].bindings[0].table ==
          iommu::PageTable{0x1000, true, true, true, true});
    CHECK(driver.invalidate(77) == Status::ok);
    CHECK(driver.invalidate(77, 1, 0, ~0ULL) == Status::ok);
    CHECK(driver.unbind(77) == Status::ok);
    CHECK(driver.free(77) == Status::ok);
    CHECK(driver.free(1) == Status::ok);
    CHECK(driver.guest.clean());
}

TEST_CASE("each refusal has its status") {
    Driver driver{2};
    REQUIRE(driver.alloc() == Status::ok);
    CHECK(driver.alloc(1) == Status::no_memory);
    CHECK(driver.alloc(0x100000) == Status::invalid);
    CHECK(driver.free(9) == Status::no_entry);
    CHECK(driver.bind(1, 0x1000, 0x10) == Status::invalid);
    CHECK(driver.bind(1, 0x1004) == Status::invalid);
    CHECK(driver.bind(1, 0x1000, 0, 0x777) == Status::no_entry);
    CHECK(driver.bind(2, 0x1000) == Status::no_entry);
    CHECK(driver.unbind(1) == Status::no_entry);
    CHECK(driver.unbind(1, 1) == Status::invalid);
    CHECK(driver.bind(1, 0x1000) == Status::ok);
    CHECK(driver.bind(1, 0x1000) == Status::invalid);
    CHECK(driver.invalidate(1, 2) == Status::invalid);
    CHECK(driver.invalidate(1, 1, 2, 1) == Status::range);
    REQUIRE(driver.alloc() == Status::ok);
    CHECK(driver.alloc() == Status::no_memory);
}

TEST_CASE("requests of a wrong length, or with reserved bytes set, are refused") {
    Driver driver;
    std::array<std::byte, 64> bytes{};
    std::array<std::byte, 4> answer{};
    for (unsigned type = 0x80; type <= 0x84; ++type) {
        constexpr std::array<std::size_t, 5> sizes{8, 8, 24, 16, 32};
        const auto size = *driver.requests.answer_size(static_cast<std::uint8_t>(type));
        for (std::size_t length = 0; length <= bytes.size(); ++length)
            if (length != sizes[type - 0x80])
                CHECK(driver.requests.execute(static_cast<std::uint8_t>(type), std::span{bytes}.first(length),
                                              std::span{answer}.first(size)) == Status::invalid);
        bytes[2] = std::byte{1};
        CHECK(driver.requests.execute(static_cast<std::uint8_t>(type), std::span{bytes}.first(sizes[type - 0x80]),
                                      std::span{answer}.first(size)) == Status::invalid);
        bytes[2] = {};
    }
    for (unsigned type = 0; type < 256; ++type)
        CHECK(driver.requests.answer_size(static_cast<std::uint8_t>(type)).has_value() ==
              (type >= 0x80 && type <= 0x84));
    CHECK(driver.guest.clean());
}

TEST_CASE("a reset of the driver frees what it allocated, and only that") {
    Driver driver;
    REQUIRE(driver.alloc() == Status::ok);
    REQUIRE(driver.bind(1, 0x1000) == Status::ok);
    const auto by_registers = driver.guest.alloc();
    driver.requests.reset();
    CHECK(driver.guest.host(GuestPasid{1}) == iommu::HostPasid{});
    CHECK(driver.guest.host(by_registers) != iommu::HostPasid{});
}

TEST_CASE("a number that was freed and allocated again by the registers outlives the driver's reset") {
    Driver driver;
    REQUIRE(driver.alloc(7) == Status::ok);
    REQUIRE(driver.guest.service->free(GuestPasid{7}) == iommu::PasidStatus::ok);
    GuestPasid kept;
    REQUIRE(driver.guest.service->alloc(kept, GuestPasid{7}) == iommu::PasidStatus::ok);
    driver.requests.reset();
    CHECK(driver.guest.host(kept) != iommu::HostPasid{});
}

} // namespace inox::iommu_pasid_requests_test
