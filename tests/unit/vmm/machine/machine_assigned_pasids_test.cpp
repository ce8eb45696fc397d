// SPDX-License-Identifier: Apache-2.0
// Assigned devices in a machine with PASIDs: the platform connects them to the host's IOMMU, or says why it cannot.
#include "tests/catch.hpp"
#include "tests/fakes/nesting_kernel.hpp"
#include "tests/fakes/platform_bench.hpp"
#include "tests/support/registers.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/machine/pasids.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::machine_assigned_pasids_test {

using devices::vfio::Backend;
using iommu::EndpointId;
using iommu::GuestPasid;
using iommu::PasidStatus;

namespace {

constexpr const char* host_address = "0000:01:00.0";

VfioConfig assigned(Backend backend = Backend::iommufd) {
    VfioConfig config;
    config.open = {"nic", host_address, backend, {}, {}};
    return config;
}

struct Bench : fakes::PlatformBench {
    fakes::NestingKernel kernel{};
    std::unique_ptr<Pasids> pasids{Pasids::create(memory, mmio, 16).value()};
    std::unique_ptr<iommu::Domains> domains{};

    explicit Bench(bool iommu = false) {
        kernel.add(host_address, 1, "vfio0");
        Config config;
        if (iommu) {
            put_device(config, IommuConfig{});
            domains = std::make_unique<iommu::Domains>(memory, iommu::Limits{}, true);
        }
        start(config, {domains.get(), &service(), &kernel, kernel.tree.root()});
    }
    ~Bench() { platform.reset(); } // destroyed before what it uses
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    iommu::PasidService& service() { return pasids->service(); }
    DeviceStatus add(Backend backend = Backend::iommufd) {
        const auto status = platform->add(assigned(backend));
        if (!status)
            FAIL(status.error().report());
        return *status;
    }
    EndpointId endpoint(const DeviceStatus& device) {
        return iommu::pci_endpoint(device.address->slot, device.address->function);
    }
    /// The row about the endpoint that an operator sees.
    std::optional<PasidView::Endpoint> shown() {
        for (const auto& one : pasids->view().endpoints)
            if (one.device == "nic")
                return one;
        return std::nullopt;
    }
    GuestPasid alloc() {
        GuestPasid pasid;
        REQUIRE(service().alloc(pasid) == PasidStatus::ok);
        return pasid;
    }
    /// Offset of a capability in the device's extended configuration space, as the guest finds it; 0: none.
    unsigned capability(const DeviceStatus& device, std::uint16_t id) {
        const auto base = layout::ecam.start().raw() + device.address->index() * 4096ULL;
        unsigned at = 0x100;
        while (at != 0) {
            const auto header = tests::in<std::uint32_t>(mmio, base + at);
            if ((header & 0xffff) == id)
                return at;
            at = header >> 20;
        }
        return 0;
    }
    template <class T> T config(const DeviceStatus& device, unsigned at) {
        return tests::in<T>(mmio, layout::ecam.start().raw() + device.address->index() * 4096ULL + at);
    }
    void remove() {
        REQUIRE(platform->table().remove({kind_of<VfioConfig>, "nic"}, Removal::forced));
        REQUIRE(tests::run_until(loop, [&] { return platform->table().settled(); }));
    }
};

} // namespace

TEST_CASE("a guest binds page tables for an assigned device, and its removal detaches all") {
    Bench bench;
    const auto device = bench.add();
    const auto endpoint = bench.endpoint(device);
    const auto parent = bench.kernel.own;
    CHECK(bench.kernel.tables.contains(parent));
    const auto row = bench.shown();
    REQUIRE(row);
    CHECK(row->id == endpoint.raw());
    CHECK(row->assigned);
    CHECK(row->refusal.empty());

    // The guest finds the capability, and its bits belong to the guest.
    const auto at = bench.capability(device, 0x1b);
    REQUIRE(at != 0);
    CHECK(bench.config<std::uint16_t>(device, at + 4) == (20U << 8 | 4));
    CHECK(bench.config<std::uint16_t>(device, at + 6) == 0);

    const auto one = bench.alloc(), two = bench.alloc();
    REQUIRE(bench.service().bind(endpoint, one, {.root = 0x5000}) == PasidStatus::ok);
    REQUIRE(bench.service().bind(endpoint, two, {.root = 0x6000}) == PasidStatus::ok);
    REQUIRE(bench.kernel.by_pasid.size() == 2);
    CHECK(bench.kernel.tables.at(bench.kernel.by_pasid.at(one.raw())).data.pgtbl_addr == 0x5000);
    CHECK(bench.kernel.tables.at(bench.kernel.by_pasid.at(two.raw())).parent == parent);
    for (const auto& id : bench.pasids->view().ids) {
        CHECK(id.bound == std::vector<std::string>{"nic"});
        REQUIRE(id.holders.size() == 3);
        CHECK(id.holders[0].name == "guest driver");
        CHECK(id.holders[1].name == "address spaces");
        CHECK(id.holders[2].name == "translation table");
    }
    SECTION("unplugged") { bench.remove(); }
    SECTION("the machine ends") { bench.platform.reset(); }
    CHECK(bench.kernel.by_pasid.empty());
    CHECK(bench.kernel.tables.empty());
    CHECK(bench.kernel.own != parent);
    CHECK_FALSE(bench.shown());
    CHECK(bench.service().bind(endpoint, one, {.root = 0x5000}) == PasidStatus::unknown_endpoint);
    CHECK(bench.service().table().size() == 0);
}

TEST_CASE("a reset of the guest's PASIDs leaves the assigned device nothing of them") {
    Bench bench;
    const auto device = bench.add();
    const auto endpoint = bench.endpoint(device);
    REQUIRE(bench.service().bind(endpoint, bench.alloc(), {.root = 0x5000}) == PasidStatus::ok);
    bench.service().reset();
    CHECK(bench.kernel.by_pasid.empty());
    CHECK(bench.kernel.tables.size() == 1); // only the parent table is left
    const auto again = bench.alloc();
    CHECK(bench.service().bind(endpoint, again, {.root = 0x7000}) == PasidStatus::ok);
    CHECK(bench.kernel.by_pasid.contains(again.raw()));
}

TEST_CASE("ten hot-plugs of an assigned device with PASIDs leave nothing behind") {
    Bench bench;
    for (int turn = 0; turn < 10; ++turn) {
        const auto device = bench.add();
        const auto pasid = bench.alloc();
        REQUIRE(bench.service().bind(bench.endpoint(device), pasid, {.root = 0x5000}) == PasidStatus::ok);
        bench.remove();
        CHECK(bench.kernel.by_pasid.empty());
        CHECK(bench.kernel.tables.empty());
        CHECK(bench.service().free(pasid) == PasidStatus::ok);
    }
    CHECK(bench.pasids->view().ids.empty());
}

TEST_CASE("an assigned device that cannot have PASIDs works without them, and the reason is shown") {
    const auto refused = [](Bench& bench, const DeviceStatus& device, const char* reason) {
        const auto row = bench.shown();
        REQUIRE(row);
        INFO(row->refusal);
        CHECK(row->refusal.find(reason) != std::string::npos);
        CHECK(row->refusal.find(host_address) != std::string::npos);
        CHECK(bench.service().bind(bench.endpoint(device), bench.alloc(), {.root = 0x5000}) ==
              PasidStatus::unknown_endpoint);
        CHECK(bench.kernel.tables.empty());
        CHECK(bench.platform->table().list().back().state == DeviceState::active);
        bench.remove();
        CHECK_FALSE(bench.shown());
    };
    SECTION("the container interface") {
        Bench bench;
        refused(bench, bench.add(Backend::container), "container");
    }
    SECTION("a kernel that does not tell") {
        Bench bench;
        bench.kernel.info_error = -ENOTTY;
        const auto device = bench.add();
        CHECK(bench.capability(device, 0x1b) == 0);
        refused(bench, device, "does not describe its IOMMU");
    }
    SECTION("no PASIDs in device or IOMMU") {
        Bench bench;
        bench.kernel.bits = 0;
        const auto device = bench.add();
        CHECK(bench.capability(device, 0x1b) == 0);
        refused(bench, device, "no PASID width");
    }
    SECTION("no nesting") {
        Bench bench;
        bench.kernel.alloc_error = -EOPNOTSUPP;
        refused(bench, bench.add(), "cannot nest");
    }
    SECTION("a virtual IOMMU between") {
        Bench bench{true};
        refused(bench, bench.add(), "virtual IOMMU");
    }
}

TEST_CASE("a number wider than the device's is refused when it is bound") {
    Bench bench;
    bench.kernel.bits = 8;
    const auto device = bench.add();
    GuestPasid large;
    REQUIRE(bench.service().alloc(large, GuestPasid{0x100}) == PasidStatus::ok);
    CHECK(bench.service().bind(bench.endpoint(device), large, {.root = 0x5000}) == PasidStatus::failed);
    CHECK(bench.service().table().size() == 0);
    CHECK(bench.service().bind(bench.endpoint(device), bench.alloc(), {.root = 0x5000}) == PasidStatus::ok);
}

} // namespace inox::machine_assigned_pasids_test
