// SPDX-License-Identifier: Apache-2.0
// MSI-X (PCI 3.0, 6.8.2): capability, vector table and pending bits of one function.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "devices/pci/config_space.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices::pci {

struct MsixLayout {
    std::uint16_t vectors{1}; ///< 1..2048
    std::uint8_t table_bar{};
    std::uint32_t table_offset{}; ///< multiple of 8
    std::uint8_t pba_bar{};
    std::uint32_t pba_offset{}; ///< multiple of 8

    [[nodiscard]] std::uint32_t table_size() const { return vectors * 16U; }
    [[nodiscard]] std::uint32_t pba_size() const { return (vectors + 63U) / 64U * 8U; }
};

/// Thread-safe. A vector is live when MSI-X is enabled and neither the function nor the vector is masked; the host's
/// interrupt resources are taken when a vector first becomes live.
class Msix {
public:
    /// Called when a vector becomes live or stops being so, with the lock held: it must not call back. `eventfd` does
    /// what trigger() does as long as this object lives.
    using VectorCallback = std::function<void(unsigned vector, bool live, int eventfd)>;

    Msix(Irqs& irqs, const MsixLayout& layout);
    /// Adds the capability and watches its control word. Returns its offset.
    Result<unsigned> add_capability(ConfigSpace& config);
    /// For a capability laid out by someone else at this offset.
    void watch_capability(ConfigSpace& config, unsigned offset);
    void on_vector(VectorCallback callback) { on_vector_ = std::move(callback); }

    /// True when the access lies in the table or the pending bits, and has been answered.
    bool bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept;
    bool bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept;

    /// Delivers, or remembers as pending while masked; dropped while MSI-X is off. Out of range is ignored.
    void trigger(unsigned vector) noexcept;
    /// An eventfd that does the same, for VFIO and vhost.
    Result<int> trigger_fd(unsigned vector);
    [[nodiscard]] bool enabled() const;
    [[nodiscard]] const MsixLayout& layout() const { return layout_; }
    /// As after power-on: disabled, every vector masked, nothing pending.
    void reset() noexcept;
    /// The table and the pending bits. The control word is configuration space's, which is restored before.
    void state(State& state);
    /// Interrupts for what was restored as pending and is not masked.
    void resume() noexcept;

private:
    struct Entry {
        MsiMessage message{};
        MsiMessage routed{};
        std::unique_ptr<MsiVector> vector{};
        bool masked{true};
        bool pending{};
        bool live{};
    };

    void set_control(std::uint16_t control) noexcept;
    [[nodiscard]] std::byte table_byte(std::uint64_t offset) const;
    void set_table_dword(std::uint64_t offset, std::uint32_t value) noexcept;
    [[nodiscard]] std::byte pending_byte(std::uint64_t offset) const;
    [[nodiscard]] bool is_pending(const Entry& entry) const;
    void update(unsigned index) noexcept;
    void go_live(unsigned index) noexcept;
    Result<void> route(Entry& entry);
    void stop(unsigned index) noexcept;
    Result<void> create_vector(Entry& entry);

    Irqs& irqs_;
    const MsixLayout layout_;
    VectorCallback on_vector_{};
    log::Throttle limiter_{};

    mutable std::mutex mutex_; // guards all below
    std::vector<Entry> entries_;
    bool enabled_{};
    bool function_masked_{};
};

} // namespace inox::devices::pci
