// SPDX-License-Identifier: Apache-2.0
// The accelerator as a PCI function, 8086:0b25.
#pragma once

#include <memory>

#include "devices/dsa/accelerator.hpp"
#include "devices/dsa/endpoint_spaces.hpp"
#include "devices/dsa/portals.hpp"
#include "devices/pci/function.hpp"
#include "devices/pci/msix.hpp"
#include "iommu/domains.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices::dsa {

struct DsaContext {
    Irqs& irqs;
    const DmaMemory& memory;       ///< what the function reaches without PASID and IOMMU
    iommu::Domains* iommu{};       ///< the function is behind it
    iommu::PasidService* pasids{}; ///< null: no PASIDs in this machine
    std::function<std::unique_ptr<Copier>()> make_copier{};
};

class DsaFunction final : public pci::Function {
public:
    static constexpr unsigned register_bar = 0;
    static constexpr unsigned portal_bar = 2;

    /// Engines run from now on.
    static Result<std::shared_ptr<DsaFunction>> create(const Shape& shape, const DsaContext& context);

    [[nodiscard]] std::string_view name() const override { return "dsa"; }
    void bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void bar_write_wide(unsigned bar, std::uint64_t offset, WideBytes data) noexcept override;
    bool bar_enqueue(unsigned bar, std::uint64_t offset, WideBytes command) noexcept override;
    Result<void> on_added(pci::Address address) override;
    void on_removed() noexcept override;
    void state(State& state) override;
    [[nodiscard]] bool drain() noexcept override { return accelerator_.drain(); }
    void resume() noexcept override;

    [[nodiscard]] Accelerator& accelerator() { return accelerator_; }

private:
    DsaFunction(const Shape& shape, const DsaContext& context);
    Result<void> build();
    void publish_bus_state() noexcept;
    void on_device_control() noexcept;

    iommu::Domains* const iommu_;
    std::unique_ptr<iommu::EndpointMemory> endpoint_; ///< null without an IOMMU
    Registration endpoint_stay_{};
    pci::Msix msix_;
    std::unique_ptr<EndpointSpaces> spaces_; ///< null without PASIDs
    Accelerator accelerator_;                // after what it interrupts through
    Portals portals_;
    unsigned express_{};
    unsigned ats_{};
    unsigned page_requests_{};
    unsigned pasid_{};
    bool restored_{false}; ///< resume() has not come yet
};

} // namespace inox::devices::dsa
