// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/forwarder.hpp"
#include "devices/dsa/function.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/platform_parts.hpp"

namespace inox {

template <> Result<OpenedDevice> Maker<DsaConfig>::open(const DsaConfig& dsa, const OpeningContext& /*context*/) {
    OpenedDevice opened;
    if (!dsa.forward.empty())
        opened.host = TRY(devices::dsa::HostQueue::open(dsa.forward));
    return opened;
}

/// Permanent: IA32_PASID and the instructions exist from the guest's first instruction on.
template <> Result<NewDevice> Maker<DsaConfig>::make(const DsaConfig& dsa, OpenedDevice opened, PlatformParts& parts) {
    const auto& context = parts.context;
    if (!parts.pci || !context.pasids)
        return fail(Errc::wrong_state, "the accelerator needs a machine that was started with it",
                    "start the machine with --dsa, on PCI");
    std::function<std::unique_ptr<devices::dsa::Copier>()> make_copier;
    if (const auto queue = std::static_pointer_cast<devices::dsa::HostQueue>(opened.host))
        make_copier = [queue] { return std::make_unique<devices::dsa::ForwardingCopier>(queue); };
    parts.dsa = TRY(devices::dsa::DsaFunction::create(
        dsa.shape, {context.irqs, context.dma, context.iommu, context.pasids, std::move(make_copier)}));
    return NewDevice{.function = parts.dsa, .permanent = true};
}

template <> std::size_t Maker<DsaConfig>::descriptors(const DsaConfig& /*dsa*/) { return usual_descriptors; }

} // namespace inox
