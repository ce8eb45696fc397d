// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/iommu.hpp"
#include "devices/virtio/pci_transport.hpp"
#include "iommu/pasid/pasid_requests.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/platform_parts.hpp"

namespace inox {

template <>
Result<OpenedDevice> Maker<IommuConfig>::open(const IommuConfig& /*iommu*/, const OpeningContext& /*context*/) {
    return OpenedDevice{};
}

/// Permanent: the ACPI tables describe it. The IOMMU does not translate its own DMA.
template <> Result<NewDevice> Maker<IommuConfig>::make(const IommuConfig& /*iommu*/, OpenedDevice /*opened*/,
                                                       PlatformParts& parts) {
    const auto& context = parts.context;
    if (!parts.pci || !context.iommu)
        return fail(Errc::wrong_state, "an IOMMU needs a machine that was started with it",
                    "start the machine with --iommu, on PCI");
    if (context.pasids)
        parts.pasid_requests = std::make_unique<iommu::PasidRequests>(*context.pasids);
    auto device = devices::virtio::Iommu::create(*context.iommu, context.loop, parts.pasid_requests.get());
    auto function = TRY(
        devices::virtio::PciTransport::create(device, {context.irqs, context.doorbells, context.dma, context.loop}));
    return NewDevice{
        .function = std::move(function), .device = std::move(device), .permanent = true, .where = iommu_address};
}

template <> std::size_t Maker<IommuConfig>::descriptors(const IommuConfig& /*iommu*/) { return usual_descriptors; }

} // namespace inox
