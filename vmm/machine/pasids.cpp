// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/pasids.hpp"

#include "vmm/memory/layout.hpp"

namespace vmm {

Result<std::unique_ptr<Pasids>> Pasids::create(const GuestMemory& memory, MemoryBus& bus) {
    std::unique_ptr<Pasids> pasids{new Pasids{}};
    pasids->service_ = TRY(iommu::PasidService::create(pasids->core_, memory, {}));
    TRY_VOID(bus.add(layout::pasid_registers, std::make_shared<devices::PasidRegisters>(*pasids->service_)));
    return pasids;
}

PasidView Pasids::view() const {
    const auto snapshot = service_->snapshot();
    PasidView out;
    out.sets.push_back({snapshot.set.number, "guest", snapshot.set.quota, snapshot.set.used});
    for (const auto& pasid : snapshot.pasids) {
        const auto guest = pasid.id.spid ? std::optional{pasid.id.spid->raw()} : std::nullopt;
        const char* state = pasid.id.free_pending ? "free pending" : pasid.id.binds == 0 ? "idle" : "active";
        out.ids.push_back({pasid.id.id.raw(), guest, snapshot.set.number, state, pasid.id.total()});
        if (pasid.in_table && guest)
            out.table.push_back({*guest, pasid.id.id.raw()});
    }
    return out;
}

} // namespace vmm
