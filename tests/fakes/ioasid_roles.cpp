// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/ioasid_roles.hpp"

#include <utility>

namespace inox::fakes::ioasid_roles {

unsigned held(PasidGuest& guest, HostPasid host, IoasidHolder holder) {
    const auto info = guest.core.info(host);
    return info ? info->references[static_cast<unsigned>(holder)] : 0;
}

Device::Device(PasidGuest& guest) : service_{*guest.service} {
    registration_ = *service_.core().add_notifier(service_.set(), IoasidPriority::device, *this);
}

bool Device::program(GuestPasid pasid) {
    const auto host = service_.acquire(pasid);
    if (host)
        context = *host;
    return host.has_value();
}

void Device::work() {
    if (!std::exchange(dirty, false))
        return;
    const HostPasid old = std::exchange(context, HostPasid{});
    service_.release(old);
}

void Device::on_ioasid(const Event& event, iommu::IoasidContext&) noexcept {
    dirty = dirty || (event.change == Event::Change::free && event.id == context);
}

} // namespace inox::fakes::ioasid_roles
