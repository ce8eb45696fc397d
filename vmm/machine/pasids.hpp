// SPDX-License-Identifier: Apache-2.0
// The guest's PASIDs: their core and service, and the registers by which the guest asks for them.
#pragma once

#include <memory>

#include "devices/pasid_registers.hpp"
#include "iommu/faults.hpp"
#include "iommu/pasid/ioasid.hpp"
#include "iommu/pasid/pasid_service.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/machine/machine_views.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

class Pasids {
public:
    /// Registers at layout::pasid_registers. All must outlive it; devices that hold PASIDs must be gone before it.
    static Result<std::unique_ptr<Pasids>> create(const GuestMemory& memory, MemoryBus& bus, std::uint32_t quota);

    /// Where refused DMA with PASID is reported, instead of in the log. Before the guest runs; must outlive this.
    void report_to(iommu::Faults& faults);

    [[nodiscard]] iommu::PasidService& service() { return *service_; }
    /// With all of the guest's PASIDs; before the devices that hold them.
    [[nodiscard]] Stateful& state() { return *registers_; }
    /// A moment's picture, with at most `most` PASIDs after the first `skip`; any thread.
    [[nodiscard]] PasidView view(std::size_t skip = 0, std::size_t most = iommu::PasidService::most_shown) const;

private:
    Pasids() = default;
    void write_log(const iommu::PasidFault& fault) noexcept;

    log::Throttle fault_log_{};
    iommu::IoasidCore core_{};
    std::unique_ptr<iommu::PasidService> service_{};
    std::shared_ptr<Stateful> registers_{};
};

} // namespace inox
