// SPDX-License-Identifier: Apache-2.0
// virtio over PCI, modern interface (virtio 1.2, 4.1): one memory BAR with all structures, MSI-X or INTx.
#pragma once

#include <memory>
#include <vector>

#include "devices/pci/function.hpp"
#include "devices/pci/msix.hpp"
#include "devices/virtio/transport.hpp"
#include "iommu/domains.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices::virtio {

class PciTransport final : public pci::Function, private Notifier {
public:
    /// On the loop's thread, or before it runs.
    static Result<std::shared_ptr<PciTransport>> create(std::shared_ptr<Device> device,
                                                        const TransportContext& context);
    ~PciTransport() override;

    [[nodiscard]] std::string_view name() const override { return transport_.device().name(); }
    [[nodiscard]] Device& device() { return transport_.device(); }
    [[nodiscard]] const pci::Msix& msix() const { return msix_; }

    void config_read(unsigned offset, std::span<std::byte> data) noexcept override;
    void config_write(unsigned offset, std::span<const std::byte> data) noexcept override;
    void bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    Result<void> on_added(pci::Address address) override;
    void on_removed() noexcept override;
    void on_bar_mapped(unsigned bar, Gpa address) noexcept override;
    void on_bar_unmapped(unsigned bar) noexcept override;
    void state(State& state) override;
    [[nodiscard]] std::optional<std::string> unsaveable() const override { return transport_.device().unsaveable(); }
    [[nodiscard]] bool drain() noexcept override { return device().drain(); }
    void resume() noexcept override;

private:
    PciTransport(std::shared_ptr<Device> device, const TransportContext& context);
    Result<void> build();
    Result<void> add_structure(std::uint8_t kind, std::uint32_t offset, std::uint32_t length);

    // Notifier
    void used_buffers(unsigned queue) noexcept override;
    void config_changed() noexcept override;
    void needs_reset() noexcept override;
    void interrupt(std::uint16_t vector, std::uint8_t isr_bit) noexcept;

    struct CommonRegister;
    [[nodiscard]] TransportCore::QueueState selected() const;
    [[nodiscard]] std::uint16_t accepted_vector(std::uint64_t value) const;
    void set_status(std::uint8_t value) noexcept;
    std::uint8_t take_isr() noexcept;
    void vectors_state(State& state);
    void trigger_intx() noexcept;

    TransportContext context_;
    std::unique_ptr<iommu::EndpointMemory> endpoint_; ///< when it is behind an IOMMU
    pci::Address place_{};
    Registration endpoint_stay_;
    TransportCore transport_;
    pci::Msix msix_;
    unsigned pci_cfg_{}; ///< offset of the configuration access capability
    std::unique_ptr<IrqLine> intx_;
    Registration resample_watch_;
    std::vector<Registration> doorbells_;
    log::Throttle limiter_{}; // the guest maps BARs as often as it likes

    // Written by any vCPU; each is a register of its own.
    std::atomic<std::uint32_t> device_feature_select_{0};
    std::atomic<std::uint32_t> driver_feature_select_{0};
    std::atomic<std::uint16_t> queue_select_{0};
    std::atomic<std::uint16_t> config_vector_{no_vector};
    std::vector<std::atomic<std::uint16_t>> queue_vectors_;
    std::atomic<std::uint8_t> isr_{0};

    static constexpr std::uint16_t no_vector = 0xffff;
};

} // namespace inox::devices::virtio
