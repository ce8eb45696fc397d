// SPDX-License-Identifier: Apache-2.0
// A guest's PASIDs as values: what is restored comes back by the guest's own commands, with all their checks.
#include "iommu/pasid/pasid_service.hpp"

#include "vmm/base/state.hpp"

namespace inox::iommu {

struct PasidService::Saved {
    struct Bound {
        std::uint32_t endpoint{};
        PageTable table{};
    };
    std::uint32_t guest{};
    bool by_requests{};
    std::vector<Bound> bound{};
};

std::vector<PasidService::Saved> PasidService::save() const {
    std::vector<Saved> all;
    const std::lock_guard lock{commands_};
    for (HostPasid from{};;) {
        const auto ids = core_.ids(set_, from);
        if (ids.empty())
            return all;
        for (const auto& id : ids) {
            if (id.free_pending || !id.spid) // the guest has freed it; devices at rest hold no work of it
                continue;
            Saved& saved = all.emplace_back();
            saved.guest = id.spid->raw();
            saved.by_requests = requested_.contains(saved.guest);
            for (const auto& space : spaces_.of(id.id))
                saved.bound.push_back({space->name().endpoint.raw(), space->table()});
        }
        from = HostPasid{ids.back().id.raw() + 1};
    }
}

PasidStatus PasidService::restore(const Saved& saved) {
    GuestPasid guest{saved.guest};
    if (const auto status = alloc(guest, guest, saved.by_requests ? PasidWay::requests : PasidWay::registers);
        status != PasidStatus::ok)
        return status;
    for (const auto& each : saved.bound)
        if (const auto status = bind(EndpointId{each.endpoint}, guest, each.table); status != PasidStatus::ok)
            return status;
    return PasidStatus::ok;
}

void PasidService::state(State& state) {
    constexpr std::size_t most_bindings = 1024; // of one PASID: one for each function of a bus, and some
    auto saved = save();
    state.version(1);
    state.check(set_info().used == 0, "PASIDs are in use here already");
    state.number("moves", moves_);
    state.list("pasids", saved, max_ioasid, [](State& one, Saved& pasid) {
        one.number("guest", pasid.guest, 1U, max_ioasid);
        one.flag("by_requests", pasid.by_requests);
        one.list("bound", pasid.bound, most_bindings, [](State& inner, Saved::Bound& bound) {
            inner.number("endpoint", bound.endpoint);
            inner.number("root", bound.table.root);
            inner.flag("five_levels", bound.table.five_levels);
            inner.flag("privileged", bound.table.privileged);
            inner.flag("write_protect", bound.table.write_protect);
            inner.flag("execute_disable", bound.table.execute_disable);
        });
    });
    if (!state.restores() || !state.ok())
        return;
    // Elsewhere than before, so that whoever kept a host's number over a move is found out.
    const std::uint64_t room = max_ioasid - options_.first.raw() + 1;
    first_ =
        HostPasid{static_cast<std::uint32_t>(options_.first.raw() + ++moves_ * std::uint64_t{options_.quota} % room)};
    for (const Saved& pasid : saved)
        state.check(restore(pasid) == PasidStatus::ok, "a PASID that this machine cannot have");
}

} // namespace inox::iommu
