// SPDX-License-Identifier: Apache-2.0
// PCI segment 0, bus 0: host bridge, 32 slots, and the two ways to reach configuration space (ports CF8/CFC and ECAM).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/guest_events.hpp"
#include "devices/pci/bar_mapper.hpp"
#include "devices/pci/function.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::devices::pci {

/// The GSI of a slot's interrupt pin (1 to 4 for INTA to INTD); \_PRT says the same.
constexpr unsigned intx_gsi(unsigned slot, unsigned pin) { return layout::gsi_pci_intx + (slot + pin - 1) % 4; }

/// Thread-safe. One lock serialises all configuration access, adding and removing; functions are called with it held
/// (see Function). Lock order: this, then a function's own locks, then those of the buses and of the interrupt router.
class RootBus final : public Stateful {
public:
    static constexpr unsigned slots = 32;
    static constexpr unsigned functions_per_slot = 8;

    /// Registers itself on both buses, which must outlive it. The host bridge is function 00.0.
    static Result<std::unique_ptr<RootBus>> create(MemoryBus& memory, PortBus& ports, GuestEvents& events,
                                                   const Windows& windows = {});
    /// Removes every function. No vCPU may run any more.
    ~RootBus() override;

    /// Places the BARs and shows the function to the guest, in the first free slot or at `where`.
    Result<Address> add(std::shared_ptr<Function> function, std::optional<Address> where = {});
    /// Takes the function away from the guest. not_found when there is none.
    Result<void> remove(Address address);
    /// The same for a device that is torn out of a running guest: configuration space is gone, but its BARs go on to
    /// read as zero until the address is removed. Linux's virtio drivers wait for a reset device to say 0, for ever.
    Result<void> tear_out(Address address);
    [[nodiscard]] std::shared_ptr<Function> find(Address address) const;
    /// In order of address, with the lock held: `visit` must not call back.
    void for_each(const std::function<void(Address, Function&)>& visit) const;

    /// Guest access: absent functions read as ones and drop writes. `address` counts slot * 8 + function; an access
    /// that does not lie in the function's 4 KiB reads as ones, too.
    void config_read(unsigned index, unsigned offset, std::span<std::byte> data) noexcept;
    void config_write(unsigned index, unsigned offset, std::span<const std::byte> data) noexcept;

    /// With every function. Restoring needs the same functions at the same addresses, and maps their BARs.
    void state(State& state) override;
    [[nodiscard]] std::optional<std::string> unsaveable() const override;
    [[nodiscard]] bool drain() noexcept override;
    void resume() noexcept override;

private:
    class ConfigPorts;
    class Ecam;
    static constexpr unsigned function_count = slots * functions_per_slot;

    RootBus(MemoryBus& memory, PortBus& ports, const Windows& windows) : mapper_{memory, ports, windows} {}
    Result<void> register_on(MemoryBus& memory, PortBus& ports, GuestEvents& events);
    [[nodiscard]] Result<Address> choose(std::optional<Address> where) const;
    [[nodiscard]] bool present(Address address) const;
    [[nodiscard]] bool slot_empty(unsigned slot) const;
    void mark_multi_function(unsigned slot);
    void sync(Attached& attached) noexcept;
    void retry_refused() noexcept;
    [[nodiscard]] std::vector<std::shared_ptr<Function>> functions() const;
    void check_functions(State& state) const;

    mutable std::mutex mutex_; // guards all below
    BarMapper mapper_;
    std::array<std::unique_ptr<Attached>, function_count> functions_{};

    std::shared_ptr<ConfigPorts> config_ports_{};
    Registration ports_{};
    Registration ecam_{};
};

} // namespace inox::devices::pci
