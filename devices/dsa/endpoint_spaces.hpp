// SPDX-License-Identifier: Apache-2.0
// A guest's PASIDs for one endpoint: the device's part in the IOASID core.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "devices/dsa/spaces.hpp"
#include "iommu/pasid/pasid_service.hpp"

namespace inox::devices::dsa {

class EndpointSpaces final : public Spaces, private iommu::IoasidNotifier {
public:
    /// `freed` is called when the guest frees a PASID, inside the core's event: it may neither wait nor call back.
    /// `service` must outlive it.
    EndpointSpaces(iommu::PasidService& service, std::function<void(iommu::HostPasid)> freed);
    ~EndpointSpaces() override;

    /// From now on page tables can be bound for this endpoint. Once. Not with locks of the device held.
    Result<void> attach(iommu::EndpointId endpoint, std::string name);
    /// No new Space from here; the guest's bindings for the endpoint go.
    void detach() noexcept;

    [[nodiscard]] std::shared_ptr<Space> open(iommu::GuestPasid pasid) noexcept override;
    [[nodiscard]] std::shared_ptr<Space> open(iommu::HostPasid pasid) noexcept override;
    [[nodiscard]] std::optional<iommu::GuestPasid> guest_of(iommu::HostPasid pasid) noexcept override;

private:
    class View;
    [[nodiscard]] std::shared_ptr<Space> view(iommu::HostPasid host) noexcept;
    void on_ioasid(const iommu::IoasidEvent& event, iommu::IoasidContext& context) noexcept override;

    iommu::PasidService& service_;
    std::function<void(iommu::HostPasid)> freed_;
    std::optional<iommu::EndpointId> endpoint_{}; // set once, before the guest can reach the device
    Registration binding_{};
    Registration notifier_{};
};

} // namespace inox::devices::dsa
