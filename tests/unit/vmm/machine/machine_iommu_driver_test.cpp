// SPDX-License-Identifier: Apache-2.0
// A guest with an IOMMU and no driver for it: the operator is notified when a device works unconfined.
#include "tests/catch.hpp"
#include "tests/fakes/platform_bench.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/registers.hpp"
#include "vmm/machine/machine_views.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::machine_iommu_driver_test {

namespace {

struct Bench : fakes::PlatformBench {
    std::unique_ptr<iommu::Domains> domains{};

    explicit Bench(bool bypass) {
        Config config;
        config.devices = {IommuConfig{}, devices::virtio::EntropyOptions{}};
        domains = std::make_unique<iommu::Domains>(memory, iommu::Limits{}, bypass);
        start(config, {.iommu = domains.get()});
    }
    ~Bench() { platform.reset(); } // destroyed before what it uses
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    /// Does what a driver does up to DRIVER_OK (virtio 1.3, 3.1.1), without queues.
    void drive(devices::pci::Address where) {
        const auto config = layout::ecam.start().raw() + (std::uint64_t{where.index()} << 12);
        tests::out<std::uint16_t>(mmio, config + 4, 6);
        const std::uint64_t common = tests::in<std::uint32_t>(mmio, config + 0x10) & ~0xfU;
        const auto status = [&](std::uint8_t value) { tests::out<std::uint8_t>(mmio, common + 0x14, value); };
        status(0);
        status(3);
        tests::out<std::uint32_t>(mmio, common + 0x08, 1);
        tests::out<std::uint32_t>(mmio, common + 0x0c, where == iommu_address ? 1 : 3); // VERSION_1, ACCESS_PLATFORM
        status(11);
        status(15);
        REQUIRE(tests::in<std::uint8_t>(mmio, common + 0x14) == 15);
    }
    devices::pci::Address entropy() {
        for (const auto& device : platform->table().list())
            if (device.name.kind == kind_of<devices::virtio::EntropyOptions>)
                return *device.address;
        FAIL("no entropy device");
        return {};
    }
    [[nodiscard]] bool shown() const {
        MachineViews views;
        show_iommu(views, domains.get());
        return views.iommu()->driver;
    }
};

bool warned(const tests::LogCapture& log) {
    return log.text().find("has no driver for its IOMMU") != std::string::npos;
}

} // namespace

TEST_CASE("a device used without a driver for the IOMMU is warned of, once, and shown") {
    Bench bench{true};
    CHECK_FALSE(bench.shown());
    {
        const tests::LogCapture log;
        bench.drive(bench.entropy());
        CHECK(log.text().find("(virtio-rng) and has no driver") != std::string::npos);
        CHECK(warned(log));
    }
    const tests::LogCapture log;
    bench.drive(bench.entropy());
    CHECK(log.text() == "");
}

TEST_CASE("with a driver for the IOMMU, or without bypass, there is nothing to warn of") {
    const bool bypass = GENERATE(false, true);
    Bench bench{bypass};
    const tests::LogCapture log;
    if (bypass) {
        bench.drive(iommu_address);
        CHECK(bench.shown());
    }
    bench.drive(bench.entropy());
    CHECK_FALSE(warned(log));
    CHECK(bench.shown() == bypass);
    // The driver leaves, as when a guest boots another kernel.
    if (bypass) {
        bench.domains->reset();
        CHECK_FALSE(bench.shown());
    }
}

} // namespace inox::machine_iommu_driver_test
