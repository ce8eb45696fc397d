// SPDX-License-Identifier: Apache-2.0
// A whole platform, its buses and guest memory real, everything of KVM and the host fake. The guest runs already.
#pragma once

#include <memory>
#include <vector>

#include "tests/fakes/fake_guest_events.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/host_device.hpp"
#include "tests/fakes/machine_events.hpp"
#include "vmm/machine/platform.hpp"

namespace inox::fakes {

struct PlatformBench {
    /// What a test brings of its own; it outlives the platform.
    struct Parts {
        iommu::Domains* iommu{};
        iommu::PasidService* pasids{};
        vfio::Kernel* vfio_kernel{};
        std::string vfio_root{};
    };
    EventLoop loop{}; // outlives the buses, which hold devices
    PortBus ports{};
    MemoryBus mmio{};
    FakeIrqs irqs{};
    FakeDoorbells doorbells{};
    FakeGuestMappings mappings{};
    GuestMemory memory{GuestMemory::create(2 * MiB, HugePages::none).value()};
    DirectMemory dma{memory};
    FakeGuestEvents guest{};
    RecordingEvents owner{};
    std::vector<inox::DeviceEvent>& told{owner.devices};
    std::unique_ptr<Platform> platform{};

    PlatformBench() = default;
    explicit PlatformBench(const inox::Config& config) { start(config, {}); }
    ~PlatformBench() { platform.reset(); }
    PlatformBench(const PlatformBench&) = delete;
    PlatformBench& operator=(const PlatformBench&) = delete;

    void start(const inox::Config& config, const Parts& parts);
};

} // namespace inox::fakes
