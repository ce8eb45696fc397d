// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/ioasid_actors.hpp"

namespace inox::fakes {

void Subscriber::on_ioasid(const Event& event, iommu::IoasidContext& context) noexcept {
    constexpr const char* names[] = {"alloc", "free", "bind", "unbind"};
    heard.push_back(names[static_cast<int>(event.change)] + (" " + std::to_string(event.id.raw())));
    if (handler_)
        handler_(event, context);
}

std::optional<iommu::HostPasid> ListAllocator::allocate(iommu::HostPasid, iommu::HostPasid) noexcept {
    if (next.empty())
        return std::nullopt;
    const auto id = next.front();
    next.erase(next.begin());
    return iommu::HostPasid{id};
}

Ioasids::Ioasids(std::uint32_t last, std::uint32_t quota)
    : core{last}, a{*core.set_alloc({iommu::IoasidToken::Owner::plain, 1}, quota)},
      b{*core.set_alloc({iommu::IoasidToken::Owner::plain, 2}, quota)} {}

iommu::IoasidResult<iommu::HostPasid> Ioasids::alloc(const iommu::IoasidSetRef& set, std::uint32_t min,
                                                     std::uint32_t max) {
    return core.alloc(set, iommu::HostPasid{min}, iommu::HostPasid{max});
}

unsigned Ioasids::references(iommu::HostPasid id) const {
    const auto info = core.info(id);
    return info ? info->total() : 0;
}

bool Ioasids::pending(iommu::HostPasid id) const {
    const auto info = core.info(id);
    return info && info->free_pending;
}

std::uint32_t Ioasids::used(const iommu::IoasidSetRef& set) const {
    for (const auto& info : core.sets())
        if (info.number == set->number())
            return info.used;
    return 0;
}

} // namespace inox::fakes
