// SPDX-License-Identifier: Apache-2.0
// An assigned device as the guest's PCI function: what of it is the device's own, what inox answers for, and how its
// BARs and interrupts get to the guest.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/pci/function.hpp"
#include "devices/pci/msi.hpp"
#include "devices/pci/msix.hpp"
#include "devices/vfio/bar_mappings.hpp"
#include "devices/vfio/config_map.hpp"
#include "devices/vfio/host_device.hpp"
#include "devices/vfio/host_event.hpp"
#include "devices/vfio/interrupt_wiring.hpp"
#include "devices/virtio/later.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/guest_mappings.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices::vfio {

struct FunctionOptions {
    bool relocate_msix{};               ///< gives the MSI-X table a BAR of its own, so that its page stays mapped
    std::optional<unsigned> msix_bar{}; ///< which one; nullopt: the first that is free
    bool rom{true};                     ///< the guest sees the expansion ROM
    std::vector<ExtendedCapability> synthesised{};
};

struct FunctionContext {
    Irqs& irqs;
    GuestMappings& mappings;
    EventLoop& loop;
    std::function<void(const HostDeviceEvent&)> on_event{}; ///< on the loop; cannot_reset within create()
    /// Runs what asks the host for long beside the loop, one after the other. Where there is one, it also ends the
    /// function. Empty: at once.
    std::function<void(std::move_only_function<void()>)> apart{};
    /// Lets other devices reach bytes of a BAR at a guest address; by `apart`. May be empty, and so may its result,
    /// when nobody else is there: see share_bars.
    std::function<Registration(Range<Gpa>, std::span<std::byte>, const std::string&)> share_bar{};
    /// Gives the device its view of memory where it sits on the guest's bus, as long as the registration lives. By
    /// attach(), else when the function is added. Empty when the device has one already.
    std::function<Result<Registration>(pci::Address)> attach_dma{};
    /// The guest is using this function of the host: a bus reset must not hit it. May be empty.
    std::function<bool(const PciAddress&)> guest_uses{};
};

/// Added and removed on the loop; created and destroyed there, or by another thread that is EventLoop::Apart, after
/// leave_loop(). The buses call from any vCPU thread; see pci::Function for the order of
/// locks. A device that fails reads as ones and does nothing from then on: the guest goes on without it.
class PciFunction final : public pci::Function, public std::enable_shared_from_this<PciFunction> {
public:
    /// Resets the device. Errors: unsupported (a bridge), config_value (options), host_error.
    static Result<std::unique_ptr<PciFunction>> create(std::unique_ptr<HostDevice> device, FunctionOptions options,
                                                       FunctionContext context);
    /// Ends what the device does to guest and host, resets it where that is ours to do, and closes it: that may take
    /// long.
    ~PciFunction() override;

    /// Does before it is added what adding it there would wait for.
    Result<void> attach(pci::Address address);
    /// On the loop: it watches and tells nothing any more. It is off the bus, or never was on it.
    void leave_loop() noexcept;

    [[nodiscard]] std::string_view name() const override { return name_; }
    [[nodiscard]] const HostDevice& device() const { return *device_; }
    /// Offers the BARs to other devices again, because there is a new one. By context.apart.
    void share_bars();
    [[nodiscard]] bool failed() const { return failed_.load(std::memory_order_acquire); }
    /// Accesses to BARs that inox served, since the start.
    [[nodiscard]] std::uint64_t trapped() const { return trapped_.load(std::memory_order_relaxed); }

    void config_read(unsigned offset, std::span<std::byte> data) noexcept override;
    void config_write(unsigned offset, std::span<const std::byte> data) noexcept override;
    void bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    Result<void> on_added(pci::Address address) override;
    void on_removed() noexcept override;
    void on_bar_mapped(unsigned bar, Gpa address) noexcept override;
    void on_bar_unmapped(unsigned bar) noexcept override;
    void state(State& /*state*/) override {}
    [[nodiscard]] std::optional<std::string> unsaveable() const override {
        return "the assigned device " + name_ + " cannot be saved";
    }

private:
    static constexpr const char* gone_text = "it does not answer any more: pulled out, or its link is down";
    struct Shared {
        Range<Gpa> range;
        Registration registration;
    };

    PciFunction(std::unique_ptr<HostDevice> device, FunctionOptions options, FunctionContext context,
                const pci::Identity& identity, std::size_t config_size);

    // Building.
    Result<void> build(std::span<const std::byte> registers);
    void add_bars(std::span<const std::byte> registers);
    Result<void> add_bar(unsigned index, std::uint32_t flags);
    void add_rom();
    Result<void> add_msix(std::span<const std::byte> registers);
    [[nodiscard]] Result<void> relocate(pci::MsixLayout& layout);
    [[nodiscard]] bool bar_free(unsigned index) const;
    void prepare_bars();
    Result<void> watch(Interrupt kind, std::function<void()> handler);

    // The device's registers.
    void reset_device();
    [[nodiscard]] Result<void> reset_bus() const;
    void write_command(std::uint16_t bits) noexcept;
    void forward_command() noexcept;
    void forward_config(unsigned offset, std::span<const std::byte> data) noexcept;
    void forward_piece(unsigned offset, std::span<const std::byte> data) noexcept;
    [[nodiscard]] bool starts_reset(unsigned offset, std::span<const std::byte> data) const noexcept;
    void forget_guest_state() noexcept;
    void sync_interrupts() noexcept;
    [[nodiscard]] bool lost() const noexcept;
    void note_loss() noexcept;
    void share_bars_later() noexcept; // any thread
    void share_bars_apart();          // on the loop
    void note_ones(std::span<const std::byte> data) noexcept;
    void note_refusal(const char* what) noexcept;

    // Life.
    void fail(const std::string& why); // on the loop

    const std::unique_ptr<HostDevice> device_;
    const FunctionOptions options_;
    const FunctionContext context_;
    const std::string name_;
    std::uint16_t decoding_{}; ///< bits of the device's command register that stay set while inox has it
    std::optional<ConfigPlan> plan_{};
    InterruptWiring wiring_;
    BarMappings bars_;
    std::unique_ptr<pci::Msi> msi_{};
    std::unique_ptr<pci::Msix> msix_{};
    std::optional<unsigned> msix_moved_to_{};
    std::unique_ptr<IrqLine> line_{};
    log::Throttle limiter_{};
    log::Throttle ones_limiter_{}; ///< looks for the device after reads of ones
    std::atomic<std::uint64_t> trapped_{};
    std::atomic<bool> failed_{};
    virtio::Later later_{};
    std::atomic<bool> stopped_{};                               // the loop sets it
    Registration loss_check_{};                                 // the loop's: while a device seems lost
    bool seems_lost_{};                                         // the loop's
    InterruptWiring::Mode wanted_{InterruptWiring::Mode::none}; // under the root bus's lock

    std::vector<EventFd> events_{};       ///< for errors, and for the host's request
    std::vector<Registration> watches_{}; // the loop's
    Registration dma_{};
    std::atomic<bool> sharing_{};              ///< share_bars() will run
    std::map<std::uint64_t, Shared> shared_{}; // of context.apart's thread; by guest address
};

} // namespace inox::devices::vfio
