// SPDX-License-Identifier: Apache-2.0
// One opened VFIO device, whatever kernel interface it came by: regions, interrupts, reset, and its DMA address space.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/vfio/host_device.hpp"
#include "devices/vfio/options.hpp"
#include "devices/vfio/pci_address.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::vfio {

class AddressSpace;
class Kernel;
class Session;

/// A device as the kernel gave it to us. What its end undoes stands in order of dependence.
struct Opened {
    OpenOptions options{};
    PciAddress address{};
    Backend backend{Backend::container}; ///< not automatic
    unsigned group{};
    std::uint32_t iommufd_id{};
    Registration registered{}; ///< the session knows it by its address
    std::shared_ptr<AddressSpace> dma{};
    UniqueFd fd{};
    Registration kvm{};      ///< KVM knows of the device's file; it is told before the file goes
    Registration attached{}; ///< with iommufd, to `dma`

    [[nodiscard]] std::string name() const { return options.id + " (" + address.text() + ")"; }
};

/// Region access and interrupts may come from any thread; for everything else see Session.
class Device final : public HostDevice {
public:
    /// Opens, reads what it offers, and gives it an address space in which nothing is mapped. The session outlives the
    /// device. Errors: config_value (no PCI address), not_found, in_use, and the vfio_ and iommu_ codes, each with the
    /// command that helps.
    static Result<std::unique_ptr<Device>> open(Session& session, const OpenOptions& options);
    /// Interrupts off, detached, closed: free for the next user at once.
    ~Device() override;

    [[nodiscard]] const std::string& id() const { return opened_.options.id; }
    [[nodiscard]] const PciAddress& address() const { return opened_.address; }
    [[nodiscard]] std::string name() const override { return opened_.name(); }
    /// container or iommufd.
    [[nodiscard]] Backend backend() const { return opened_.backend; }
    [[nodiscard]] unsigned group() const { return opened_.group; }
    /// As iommufd numbers it, 0 for the container.
    [[nodiscard]] std::uint32_t iommufd_id() const { return opened_.iommufd_id; }
    [[nodiscard]] int fd() const { return opened_.fd.get(); }
    /// Devices of one group share theirs.
    [[nodiscard]] AddressSpace& dma() { return *opened_.dma; }
    [[nodiscard]] const AddressSpace& dma() const { return *opened_.dma; }

    // What HostDevice says
    [[nodiscard]] const RegionInfo& region(unsigned index) const override { return regions_.at(index); }
    [[nodiscard]] bool read(unsigned index, std::uint64_t offset, std::span<std::byte> out) const noexcept override;
    [[nodiscard]] bool write(unsigned index, std::uint64_t offset,
                             std::span<const std::byte> in) const noexcept override;
    Result<Mapping> map(unsigned index, RegionArea part) const override;
    [[nodiscard]] const InterruptInfo& interrupt(Interrupt kind) const override {
        return interrupts_.at(static_cast<std::size_t>(kind));
    }
    Result<void> enable(Interrupt kind, unsigned start, std::span<const int> fds) override;
    Result<void> disable(Interrupt kind) override;
    Result<void> unmask_intx_on(int fd) override;
    [[nodiscard]] bool can_reset() const override { return can_reset_; }
    /// That it can be reset is known from this very reset. Who passes open files on may keep the device open.
    [[nodiscard]] bool reset_by_opening() const override { return can_reset_ && !opened_.options.files.any(); }
    Result<void> reset() override;
    Result<std::vector<ResetPeer>> reset_peers() const override;
    Result<void> hot_reset() override;

    // For tests of a host without a driver in a guest.
    /// Signals the vectors as the device would.
    Result<void> trigger(Interrupt kind, unsigned start, unsigned count);
    Result<void> unmask_intx();

private:
    Device(const Session& session, Opened opened);
    Result<void> read_info();
    Result<void> read_regions(unsigned count);
    Result<void> read_interrupts(unsigned count);
    struct Dependent {
        ResetPeer peer;
        int group_file; ///< -1: not held, or not needed
    };
    Result<std::vector<std::byte>> ask_reset_peers() const;
    Result<std::vector<Dependent>> reset_dependents() const;
    [[nodiscard]] std::unexpected<Error> bus_reset_failed(int error, std::span<const Dependent> reached) const;
    Result<void> set_irqs(Interrupt kind, std::uint32_t flags, unsigned start, unsigned count, std::span<const int> fds,
                          const char* what);

    const Session& session_;
    Kernel& kernel_;
    Opened opened_;
    bool can_reset_{};
    std::array<RegionInfo, region_count> regions_{};
    std::array<InterruptInfo, interrupt_count> interrupts_{};
    std::array<bool, interrupt_count> enabled_{};
};

} // namespace inox::devices::vfio
