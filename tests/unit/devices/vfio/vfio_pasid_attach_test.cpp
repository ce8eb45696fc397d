// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/pasid_attach.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/nesting_kernel.hpp"
#include "tests/fakes/vfio_host.hpp"

namespace inox::vfio_pasid_attach_test {

using devices::vfio::Backend;
using devices::vfio::PasidAttach;
using iommu::GuestPasid;
using iommu::HostPasid;
namespace uapi = devices::vfio::uapi;

namespace {

struct Host {
    fakes::NestingKernel kernel{};
    std::unique_ptr<devices::vfio::Session> session{};
    std::unique_ptr<devices::vfio::Device> device{};

    explicit Host(Backend backend = Backend::iommufd) {
        kernel.add("0000:01:00.0", 1, "vfio0");
        session = std::make_unique<devices::vfio::Session>(devices::vfio::SessionHooks{}, kernel, kernel.tree.root(),
                                                           devices::vfio::LockLimit{std::nullopt});
        auto opened = devices::vfio::Device::open(*session, {"dev", "0000:01:00.0", backend, {}, {}});
        REQUIRE(opened);
        device = std::move(*opened);
    }
    std::string refusal() {
        const auto made = PasidAttach::create(kernel, *device);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == Errc::unsupported);
        CHECK_FALSE(made.error().hint.empty());
        CHECK(kernel.tables.empty());
        return made.error().what;
    }
};

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("without what it takes, an assigned device has no PASIDs, and the reason is told") {
    {
        Host host{Backend::container};
        CHECK(has(host.refusal(), "container"));
    }
    Host host;
    host.kernel.info_error = -ENOTTY;
    CHECK(has(host.refusal(), "does not describe"));
    host.kernel.info_error = 0;
    host.kernel.bits = 0;
    CHECK(has(host.refusal(), "no PASID width"));
    host.kernel.bits = 20;
    host.kernel.type = 4;
    CHECK(has(host.refusal(), "x86-64's format"));
    host.kernel.type = uapi::GetHwInfo::type_intel_vtd;
    host.kernel.alloc_error = -EOPNOTSUPP;
    CHECK(has(host.refusal(), "cannot nest"));
    host.kernel.alloc_error = 0;
    host.kernel.attach_error = -EINVAL;
    CHECK(has(host.refusal(), "cannot move"));
    host.kernel.attach_error = 0;
    CHECK(PasidAttach::create(host.kernel, *host.device));
}

TEST_CASE("guest page tables nest on what maps the guest's RAM, one for each PASID") {
    Host host;
    const auto ioas = host.kernel.own;
    {
        const auto pasids = *PasidAttach::create(host.kernel, *host.device);
        const auto parent = host.kernel.own;
        REQUIRE(host.kernel.tables.contains(parent));
        CHECK(host.kernel.tables.at(parent).parent == ioas);
        CHECK(host.kernel.tables.at(parent).flags == (uapi::HwptAlloc::flag_nest_parent | uapi::HwptAlloc::flag_pasid));
        REQUIRE(pasids->attach(GuestPasid{0x8000}, {.root = 0x5000, .privileged = true}));
        REQUIRE(pasids->attach(GuestPasid{0x8001}, {.root = 0x6000, .five_levels = true, .write_protect = true}));
        const auto& first = host.kernel.tables.at(host.kernel.by_pasid.at(0x8000));
        CHECK(first.parent == parent);
        CHECK(first.flags == uapi::HwptAlloc::flag_pasid);
        CHECK(first.data.pgtbl_addr == 0x5000);
        CHECK(first.data.addr_width == 48);
        CHECK(first.data.flags == 1);
        const auto& second = host.kernel.tables.at(host.kernel.by_pasid.at(0x8001));
        CHECK(second.data.addr_width == 57);
        CHECK(second.data.flags == 4);
        pasids->invalidate(GuestPasid{0x8000}, {});
        pasids->invalidate(GuestPasid{0x8000}, Range<Iova>::sized(Iova{0x1800}, 0x1000));
        pasids->invalidate(GuestPasid{0x9999}, {});
        REQUIRE(host.kernel.invalidated.size() == 2);
        CHECK(host.kernel.invalidated[0].second.npages == ~0ULL);
        CHECK(host.kernel.invalidated[1].second.addr == 0x1000);
        CHECK(host.kernel.invalidated[1].second.npages == 2);
        pasids->detach(GuestPasid{0x8000});
        CHECK_FALSE(host.kernel.by_pasid.contains(0x8000));
        CHECK(host.kernel.tables.size() == 2);
    }
    CHECK(host.kernel.by_pasid.empty());
    CHECK(host.kernel.tables.empty());
    CHECK(host.kernel.own == ioas);
}

TEST_CASE("a refused attachment leaves nothing behind") {
    Host host;
    const auto pasids = *PasidAttach::create(host.kernel, *host.device);
    host.kernel.pasid_error = -ENOTTY;
    CHECK_FALSE(pasids->attach(GuestPasid{1}, {.root = 0x5000}));
    host.kernel.pasid_error = 0;
    host.kernel.alloc_error = -EINVAL;
    CHECK_FALSE(pasids->attach(GuestPasid{1}, {.root = 0x5000}));
    host.kernel.alloc_error = 0;
    CHECK_FALSE(pasids->attach(GuestPasid{1U << 20}, {.root = 0x5000}));
    CHECK(host.kernel.tables.size() == 1);
    pasids->detach(GuestPasid{1});
    CHECK(pasids->attach(GuestPasid{1}, {.root = 0x5000}));
}

TEST_CASE("the guest's bind reaches the host's IOMMU, its free takes it away") {
    Host host;
    const auto pasids = *PasidAttach::create(host.kernel, *host.device);
    iommu::IoasidCore core;
    const auto memory = *GuestMemory::create(16 * MiB, HugePages::none);
    const auto service = *iommu::PasidService::create(core, memory, {});
    constexpr iommu::EndpointId endpoint{0x28};
    const auto registration = service->add_endpoint(endpoint, {.name = "dev", .attacher = pasids.get()});
    iommu::GuestPasid pasid;
    REQUIRE(service->alloc(pasid) == iommu::PasidStatus::ok);
    host.kernel.pasid_error = -ENODEV;
    CHECK(service->bind(endpoint, pasid, {.root = 0x5000}) == iommu::PasidStatus::failed);
    CHECK(core.info(HostPasid{0x8000})->total() == 1);
    host.kernel.pasid_error = 0;
    REQUIRE(service->bind(endpoint, pasid, {.root = 0x5000}) == iommu::PasidStatus::ok);
    CHECK(host.kernel.by_pasid.contains(pasid.raw())); // the number that the guest's driver writes to the device
    REQUIRE(service->invalidate(endpoint, pasid, {}) == iommu::PasidStatus::ok);
    CHECK(host.kernel.invalidated.size() == 1);
    REQUIRE(service->free(pasid) == iommu::PasidStatus::ok);
    CHECK(host.kernel.by_pasid.empty());
}

} // namespace inox::vfio_pasid_attach_test
