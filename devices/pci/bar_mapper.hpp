// SPDX-License-Identifier: Apache-2.0
// Puts BARs where the guest programs them, and nowhere else than inside the host bridge's windows.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "devices/pci/function.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/memory/layout.hpp"

namespace devices::pci {

/// What the host bridge forwards to its functions. No RAM, interrupt controller or other device may lie inside.
struct Windows {
    vmm::Range<vmm::Gpa> memory32{vmm::layout::pci_bars_32};
    vmm::Range<vmm::Gpa> memory64{vmm::layout::pci_bars_64};
    vmm::Range<vmm::IoPort> io{vmm::layout::pci_io};
};

/// A function on the bus, with where its BARs are mapped now.
struct Attached {
    struct Mapped {
        std::uint64_t start{};
        std::uint64_t size{};
        bool operator==(const Mapped&) const = default;
    };
    std::shared_ptr<Function> function{};
    Address address{};
    std::array<std::optional<Mapped>, bar_count> mapped{};
    std::array<bool, bar_count> blocked{}; ///< wanted, but another BAR is in the way
};

/// Not synchronised: the root bus's lock covers it.
class BarMapper {
public:
    BarMapper(vmm::MemoryBus& memory, vmm::PortBus& ports, const Windows& windows)
        : memory_{memory}, ports_{ports}, windows_{windows} {}

    /// Gives each BAR of a new function an address that no BAR of `others` uses. no_resource when a window is full.
    vmm::Result<void> place(Function& function, std::span<const std::unique_ptr<Attached>> others) const;
    /// Makes the buses agree with the function's command register and BARs. True when a range became free.
    bool sync(Attached& attached) noexcept;
    void unmap_all(Attached& attached) noexcept;

private:
    using Mapped = Attached::Mapped;

    [[nodiscard]] std::optional<Mapped> wanted(const Attached& attached, unsigned index) noexcept;
    [[nodiscard]] bool in_window(const Bar& bar, Mapped range) const;
    void map(Attached& attached, unsigned index, Mapped range) noexcept;
    void unmap(Attached& attached, unsigned index) noexcept;

    vmm::MemoryBus& memory_;
    vmm::PortBus& ports_;
    Windows windows_;
    vmm::log::RateLimiter limiter_{};
};

} // namespace devices::pci
