// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/pasids.hpp"

#include <array>

#include "vmm/base/hex.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

const char* cause_text(iommu::PageFault::Cause cause) {
    using Cause = iommu::PageFault::Cause;
    switch (cause) {
    case Cause::protection:
        return "no right";
    case Cause::reserved:
        return "a reserved bit is set";
    case Cause::outside_ram:
        return "no memory there";
    case Cause::non_canonical:
        return "no address";
    case Cause::not_present:
    case Cause::unstable:
        break;
    }
    return "no mapping";
}

/// Devices that inox emulates hold references of their own. The accelerator is the only one.
std::string own_devices(const iommu::PasidService::Snapshot& snapshot) {
    std::string names;
    for (const auto& endpoint : snapshot.endpoints)
        if (!endpoint.assigned)
            names += (names.empty() ? "" : ", ") + endpoint.name;
    return names;
}

std::vector<PasidView::Holder> holders_of(const iommu::IoasidInfo& id, const std::string& devices) {
    const std::array<std::string, iommu::ioasid_holders> names{"guest driver", "address spaces", "translation table",
                                                               devices.empty() ? "a removed device" : devices, "other"};
    std::vector<PasidView::Holder> out;
    for (std::size_t i = 0; i < names.size(); ++i)
        if (id.references[i] != 0)
            out.push_back({names[i], id.references[i]});
    return out;
}

} // namespace

Result<std::unique_ptr<Pasids>> Pasids::create(const GuestMemory& memory, MemoryBus& bus, std::uint32_t quota) {
    std::unique_ptr<Pasids> pasids{new Pasids{}};
    pasids->service_ = TRY(iommu::PasidService::create(pasids->core_, memory, {.quota = quota}));
    pasids->service_->set_fault_sink([self = pasids.get()](const iommu::PasidFault& fault) { self->write_log(fault); });
    auto registers = std::make_shared<devices::PasidRegisters>(*pasids->service_);
    pasids->registers_ = registers;
    TRY_VOID(bus.add(layout::pasid_registers, std::move(registers)));
    return pasids;
}

void Pasids::report_to(iommu::Faults& faults) {
    using Reason = iommu::Fault::Reason;
    service_->set_fault_sink([&faults](const iommu::PasidFault& fault) {
        const bool nowhere = fault.cause == iommu::PageFault::Cause::outside_ram;
        faults.report(
            {fault.endpoint, nowhere ? Reason::unknown : Reason::mapping, fault.access, fault.address, fault.guest});
    });
}

void Pasids::write_log(const iommu::PasidFault& fault) noexcept {
    if (fault_log_.allow())
        log::write(log::Level::info, "PASID %u: endpoint 0000:%02x:%02x.%x may not %s %#llx: %s", fault.guest.raw(),
                   fault.endpoint.raw() >> 8 & 0xff, fault.endpoint.raw() >> 3 & 0x1f, fault.endpoint.raw() & 7,
                   fault.access == Access::read ? "read" : "write", hex(fault.address), cause_text(fault.cause));
}

PasidView Pasids::view(std::size_t skip, std::size_t most) const {
    const auto snapshot = service_->snapshot(skip, most);
    PasidView out;
    out.sets.push_back({snapshot.set.number, "guest", snapshot.set.quota, snapshot.set.used});
    for (const auto& endpoint : snapshot.endpoints)
        out.endpoints.push_back({endpoint.id.raw(), endpoint.name, endpoint.assigned, endpoint.refusal});
    out.counters.faults = snapshot.counts.faults;
    const auto devices = own_devices(snapshot);
    for (const auto& pasid : snapshot.pasids) {
        const auto guest = pasid.id.spid ? std::optional{pasid.id.spid->raw()} : std::nullopt;
        const char* state = pasid.id.free_pending ? "free pending" : pasid.id.binds == 0 ? "idle" : "active";
        out.ids.push_back({pasid.id.id.raw(), guest, snapshot.set.number, state, holders_of(pasid.id, devices), {}});
        for (const auto& binding : pasid.bindings)
            for (const auto& endpoint : snapshot.endpoints)
                if (endpoint.id == binding.endpoint)
                    out.ids.back().bound.push_back(endpoint.name);
        if (pasid.in_table && guest)
            out.table.push_back({*guest, pasid.id.id.raw()});
    }
    return out;
}

} // namespace inox
