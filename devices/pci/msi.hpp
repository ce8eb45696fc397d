// SPDX-License-Identifier: Apache-2.0
// MSI (PCI 3.0, 6.8.1): the registers of one function's capability, with up to 32 vectors.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "devices/pci/config_space.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices::pci {

/// Only writes to the interrupt window are interrupts; anything else would be a write to memory by the device.
constexpr bool is_interrupt(const MsiMessage& message) { return (message.address & 0xfff00000) == 0xfee00000; }

struct MsiLayout {
    unsigned offset{};   ///< of the capability in configuration space
    unsigned vectors{1}; ///< 1, 2, 4, 8, 16 or 32
    bool wide{};         ///< 64-bit address
    bool maskable{};     ///< mask and pending bits per vector

    /// From the capability's message control word.
    static MsiLayout decode(unsigned offset, std::uint16_t control);
    [[nodiscard]] std::uint16_t control() const;
    [[nodiscard]] unsigned data() const { return offset + (wide ? 12 : 8); }
    [[nodiscard]] unsigned mask() const { return offset + (wide ? 16 : 12); }
    [[nodiscard]] unsigned pending() const { return mask() + 4; }
    [[nodiscard]] unsigned size() const { return (maskable ? pending() + 4 : data() + 2) - offset; }
};

/// Not synchronised: its registers are configuration space, so the root bus's lock covers it. The host's interrupt
/// resources are taken when the guest first enables a vector.
class Msi {
public:
    Msi(Irqs& irqs, const MsiLayout& layout) : irqs_{irqs}, layout_{layout} {}

    /// Lays the registers out behind the capability's header and watches them. `config` must live as long.
    void install(ConfigSpace& config);
    [[nodiscard]] const MsiLayout& layout() const { return layout_; }
    [[nodiscard]] bool enabled() const { return enabled_; }
    /// Eventfds of the enabled vectors, -1 for one that got no host resources. Changes only with configuration writes.
    [[nodiscard]] const std::vector<int>& eventfds() const { return eventfds_; }
    /// Brings the pending bits in configuration space up to date, for a read.
    void update_pending() noexcept;
    /// As after power-on.
    void reset() noexcept;

private:
    void update() noexcept;
    Result<int> start(unsigned index, MsiMessage message, bool masked);
    void stop(unsigned index) noexcept;

    Irqs& irqs_;
    const MsiLayout layout_;
    ConfigSpace* config_{};
    log::Throttle limiter_{};
    std::vector<std::unique_ptr<MsiVector>> vectors_{};
    std::vector<int> eventfds_{};
    bool enabled_{};
};

} // namespace inox::devices::pci
