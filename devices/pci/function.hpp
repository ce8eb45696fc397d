// SPDX-License-Identifier: Apache-2.0
// What a PCI device class implements: a configuration space and what its BARs do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "devices/pci/config_space.hpp"
#include "vmm/base/address.hpp"
#include "vmm/base/error.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/bus/stateful.hpp"

namespace inox::devices::pci {

/// Where a function sits on bus 0.
struct Address {
    std::uint8_t slot{};     ///< 0..31
    std::uint8_t function{}; ///< 0..7

    [[nodiscard]] constexpr unsigned index() const { return slot * 8U + function; }
    /// As lspci prints it: "0000:00:1f.0".
    [[nodiscard]] std::string text() const { return format("0000:00:%02x.%x", slot, function); }
    constexpr auto operator<=>(const Address&) const = default;
};

/// Configuration access, state() and what goes with it, on_added, on_removed and the BAR callbacks are serialised by
/// the root bus's lock: they must neither call the root bus nor wait for the device loop. BAR access comes from any
/// vCPU thread, several at once, and may still come for a moment after the BAR was unmapped. Configuration space and
/// the places of BARs are the root bus's to save: state() comes after configuration space was restored, and before BARs
/// are mapped.
class Function : public Stateful {
public:
    explicit Function(const Identity& identity, unsigned config_size = ConfigSpace::express)
        : config_{identity, config_size} {}

    [[nodiscard]] virtual std::string_view name() const = 0;
    [[nodiscard]] ConfigSpace& config() { return config_; }
    [[nodiscard]] const ConfigSpace& config() const { return config_; }

    /// Override to pass registers to a real device. The root bus looks at config()'s command register and BARs after
    /// each write.
    virtual void config_read(unsigned offset, std::span<std::byte> data) noexcept { config_.read(offset, data); }
    virtual void config_write(unsigned offset, std::span<const std::byte> data) noexcept {
        config_.write(offset, data);
    }

    virtual void bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept {
        (void)bar, (void)offset;
        std::ranges::fill(data, std::byte{0xff});
    }
    virtual void bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept {
        (void)bar, (void)offset, (void)data;
    }

    /// 64-byte stores, aligned: see BusDevice.
    virtual void bar_write_wide(unsigned bar, std::uint64_t offset, WideBytes data) noexcept {
        for (std::size_t at = 0; at < data.size(); at += 8)
            bar_write(bar, offset + at, data.subspan(at, 8));
    }
    virtual bool bar_enqueue(unsigned bar, std::uint64_t offset, WideBytes command) noexcept {
        (void)bar, (void)offset, (void)command;
        return false;
    }

    /// The address is decided and BARs are placed; the guest does not see the function yet. An error undoes the add.
    virtual Result<void> on_added(Address address) {
        (void)address;
        return {};
    }
    /// All BARs are unmapped and the guest sees the function no more.
    virtual void on_removed() noexcept {}
    /// The memory BAR answers at this address now: doorbells and memory slots can be put there.
    virtual void on_bar_mapped(unsigned bar, Gpa address) noexcept { (void)bar, (void)address; }
    /// The memory BAR is about to stop answering: whatever on_bar_mapped put there must go.
    virtual void on_bar_unmapped(unsigned bar) noexcept { (void)bar; }

private:
    ConfigSpace config_;
};

} // namespace inox::devices::pci
