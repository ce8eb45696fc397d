// SPDX-License-Identifier: Apache-2.0
// virtio over MMIO, version 2 (virtio 1.2, 4.2): one page of 32-bit registers and one interrupt.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "devices/virtio/transport.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices::virtio {

class MmioTransport final : public BusDevice, private Notifier {
public:
    /// `registers` is one page; `gsi` is an edge interrupt. On the loop's thread, or before it runs.
    static Result<std::shared_ptr<MmioTransport>>
    create(std::shared_ptr<Device> device, const TransportContext& context, Range<Gpa> registers, unsigned gsi);

    [[nodiscard]] std::string_view name() const override { return transport_.device().name(); }
    [[nodiscard]] Device& device() const { return transport_.device(); }
    [[nodiscard]] Range<Gpa> registers() const { return registers_; }
    [[nodiscard]] unsigned gsi() const { return gsi_; }

    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override;
    [[nodiscard]] std::optional<std::string> unsaveable() const override { return device().unsaveable(); }
    [[nodiscard]] bool drain() noexcept override { return device().drain(); }
    void resume() noexcept override;

private:
    MmioTransport(std::shared_ptr<Device> device, const TransportContext& context, Range<Gpa> registers, unsigned gsi);

    void used_buffers(unsigned queue) noexcept override;
    void config_changed() noexcept override;
    void needs_reset() noexcept override;
    void interrupt(std::uint8_t bit) noexcept;

    [[nodiscard]] std::uint32_t read_register(std::uint64_t offset) noexcept;
    void write_register(std::uint64_t offset, std::uint32_t value) noexcept;
    void write_queue_register(std::uint64_t offset, std::uint32_t value) noexcept;

    TransportCore transport_;
    Range<Gpa> registers_;
    unsigned gsi_;
    std::unique_ptr<IrqLine> irq_;
    std::vector<Registration> doorbells_;
    std::atomic<std::uint32_t> device_feature_select_{0};
    std::atomic<std::uint32_t> driver_feature_select_{0};
    std::atomic<std::uint32_t> queue_select_{0};
    std::atomic<std::uint8_t> interrupt_status_{0};
};

} // namespace inox::devices::virtio
