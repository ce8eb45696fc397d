// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid_spaces.hpp"

#include <algorithm>
#include <mutex>

namespace iommu {

bool PasidSpaces::bind(const PasidSpace::Name& name, const PageTable& table) {
    std::lock_guard lock{mutex_};
    auto& slot = spaces_[key(name.endpoint, name.host)];
    if (slot)
        return false;
    slot = std::make_shared<PasidSpace>(memory_, name, table, sink_);
    return true;
}

std::shared_ptr<PasidSpace> PasidSpaces::unbind(EndpointId endpoint, HostPasid host) {
    std::lock_guard lock{mutex_};
    const auto it = spaces_.find(key(endpoint, host));
    if (it == spaces_.end())
        return nullptr;
    auto space = std::move(it->second);
    spaces_.erase(it);
    return space;
}

std::vector<std::shared_ptr<PasidSpace>> PasidSpaces::revoke_all(HostPasid host) {
    std::lock_guard lock{mutex_};
    std::vector<std::shared_ptr<PasidSpace>> revoked;
    std::erase_if(spaces_, [&](const auto& each) {
        const auto& space = each.second;
        if (space->name().host != host)
            return false;
        space->revoke();
        revoked.push_back(space);
        return true;
    });
    return revoked;
}

std::shared_ptr<PasidSpace> PasidSpaces::space(EndpointId endpoint, HostPasid host) const {
    std::shared_lock lock{mutex_};
    const auto it = spaces_.find(key(endpoint, host));
    return it == spaces_.end() ? nullptr : it->second;
}

std::shared_ptr<const vmm::DmaMemory> PasidSpaces::find(EndpointId endpoint, HostPasid host, bool privileged) const {
    auto found = space(endpoint, host);
    if (!found)
        return nullptr;
    const auto* view = &found->view(privileged);
    return {std::move(found), view};
}

std::size_t PasidSpaces::count(HostPasid host) const {
    std::shared_lock lock{mutex_};
    return static_cast<std::size_t>(
        std::ranges::count_if(spaces_, [&](const auto& each) { return each.second->name().host == host; }));
}

std::vector<std::shared_ptr<PasidSpace>> PasidSpaces::all() const {
    std::shared_lock lock{mutex_};
    std::vector<std::shared_ptr<PasidSpace>> list;
    for (const auto& [key, space] : spaces_)
        list.push_back(space);
    std::ranges::sort(list, {}, [](const auto& each) { return std::pair{each->name().host, each->name().endpoint}; });
    return list;
}

} // namespace iommu
