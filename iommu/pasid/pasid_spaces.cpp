// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_spaces.hpp"

#include <algorithm>
#include <mutex>

namespace inox::iommu {
namespace {

EndpointId endpoint_of(const PasidSpaces::Ref& space) { return space->name().endpoint; }

} // namespace

bool PasidSpaces::bind(const PasidSpace::Name& name, const PageTable& table) {
    std::lock_guard lock{mutex_};
    auto& bound = spaces_[name.host.raw()];
    const auto place = std::ranges::lower_bound(bound, name.endpoint, {}, endpoint_of);
    if (place != bound.end() && endpoint_of(*place) == name.endpoint)
        return false;
    bound.insert(place, std::make_shared<PasidSpace>(memory_, name, table, sink_));
    return true;
}

PasidSpaces::Ref PasidSpaces::unbind(EndpointId endpoint, HostPasid host) {
    std::lock_guard lock{mutex_};
    const auto entry = spaces_.find(host.raw());
    if (entry == spaces_.end())
        return nullptr;
    auto& bound = entry->second;
    const auto place = std::ranges::find(bound, endpoint, endpoint_of);
    if (place == bound.end())
        return nullptr;
    auto space = std::move(*place);
    bound.erase(place);
    if (bound.empty())
        spaces_.erase(entry);
    return space;
}

std::vector<PasidSpaces::Ref> PasidSpaces::revoke_all(HostPasid host) {
    std::lock_guard lock{mutex_};
    const auto entry = spaces_.find(host.raw());
    if (entry == spaces_.end())
        return {};
    auto revoked = std::move(entry->second);
    spaces_.erase(entry);
    for (const auto& space : revoked)
        space->revoke();
    return revoked;
}

PasidSpaces::Ref PasidSpaces::space(EndpointId endpoint, HostPasid host) const {
    std::shared_lock lock{mutex_};
    const auto entry = spaces_.find(host.raw());
    if (entry == spaces_.end())
        return nullptr;
    const auto place = std::ranges::find(entry->second, endpoint, endpoint_of);
    return place == entry->second.end() ? nullptr : *place;
}

std::shared_ptr<const DmaMemory> PasidSpaces::find(EndpointId endpoint, HostPasid host, bool privileged) const {
    auto found = space(endpoint, host);
    if (!found)
        return nullptr;
    const auto* view = &found->view(privileged);
    return {std::move(found), view};
}

bool PasidSpaces::bound(HostPasid host) const {
    std::shared_lock lock{mutex_};
    return spaces_.contains(host.raw());
}

std::vector<PasidSpaces::Ref> PasidSpaces::of(HostPasid host) const {
    std::shared_lock lock{mutex_};
    const auto entry = spaces_.find(host.raw());
    return entry == spaces_.end() ? std::vector<Ref>{} : entry->second;
}

std::vector<PasidSpaces::Ref> PasidSpaces::of(EndpointId endpoint) const {
    std::shared_lock lock{mutex_};
    std::vector<Ref> list;
    for (const auto& [host, bound] : spaces_)
        for (const auto& space : bound)
            if (endpoint_of(space) == endpoint)
                list.push_back(space);
    return list;
}

} // namespace inox::iommu
