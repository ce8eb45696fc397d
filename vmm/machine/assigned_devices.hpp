// SPDX-License-Identifier: Apache-2.0
// The host devices of one machine: opened, their DMA mapped, and made functions of the guest's PCI bus.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "devices/vfio/device.hpp"
#include "devices/vfio/pci_function.hpp"
#include "devices/vfio/session.hpp"
#include "iommu/domains.hpp"
#include "iommu/pasid/pasid_service.hpp"
#include "vmm/config/config.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

struct AssignedContext {
    Irqs& irqs;
    GuestMappings& mappings;
    EventLoop& loop;
    const GuestMemory& memory;
    iommu::Domains* iommu{}; ///< devices are behind it, each alone in its IOMMU group; null: they reach all memory
    std::function<Result<Registration>(int)> add_to_kvm;
    iommu::PasidService* pasids{}; ///< null: a machine without PASIDs
    devices::vfio::Kernel& kernel{devices::vfio::Kernel::host()};
    std::string root{}; ///< before every path of the host's
};

/// On the loop's thread, or before it runs. Outlives the functions it made.
class AssignedDevices {
public:
    using OnEvent = std::function<void(const devices::vfio::HostDeviceEvent&)>;
    explicit AssignedDevices(AssignedContext context);
    AssignedDevices(const AssignedDevices&) = delete;
    AssignedDevices& operator=(const AssignedDevices&) = delete;
    ~AssignedDevices();

    /// Opens devices that make() will be asked for: a bus can be reset only while every function on it is open.
    Result<void> open(std::span<const VfioConfig* const> devices);
    /// The device as a PCI function. Without an IOMMU for the guest it reaches all guest memory from here on. In a
    /// machine with PASIDs it has them too where kernel, IOMMU and device can, and the PASIDs' view says why where not.
    Result<std::shared_ptr<devices::vfio::PciFunction>> make(const VfioConfig& config, OnEvent on_event);
    using Done = std::move_only_function<void(Result<std::shared_ptr<devices::vfio::PciFunction>>)>;
    /// make() for a machine that runs: memory is pinned by a thread of its own while the loop goes on. `done` is called
    /// on the loop, perhaps before this returns. One device after the other.
    void make_later(const VfioConfig& config, OnEvent on_event, Done done);
    /// Whether make_later() is at work on a device of this id.
    [[nodiscard]] bool making(const std::string& id) const;
    /// Cancels it: calls its `done` with wrong_state and removes all that was made. False when there is none.
    bool cancel(const std::string& id);
    /// The same for all; returns once no thread is at work, which is soon.
    void stop();
    /// From now on devices are in use: no bus reset may hit them.
    void guest_starts() { running_ = true; }

    [[nodiscard]] devices::vfio::Session& session() { return session_; }

private:
    struct Made {
        devices::vfio::PciAddress host;
        const devices::vfio::AddressSpace* space; ///< for comparison only
        std::weak_ptr<devices::vfio::PciFunction> function;
    };

    struct Making {
        VfioConfig config;
        OnEvent on_event;
        Done done;
        std::unique_ptr<devices::vfio::Device> device{};
        std::unique_ptr<devices::vfio::PinJob> job{};
    };

    /// What make() needs of the loop before memory is pinned, and after.
    Result<std::unique_ptr<devices::vfio::Device>> prepare(const VfioConfig& config);
    Result<std::shared_ptr<devices::vfio::PciFunction>> finish(const VfioConfig& config, OnEvent on_event,
                                                               std::unique_ptr<devices::vfio::Device> device);
    void make_next();
    bool start_pinning(Making& making);
    void on_pinned();
    Result<void> register_ram();
    Result<Registration> attach(devices::vfio::Device& device, devices::pci::Address at);
    Result<Registration> attach_pasids(devices::vfio::Device& device, iommu::EndpointId endpoint);
    [[nodiscard]] Result<void> check_alone(const devices::vfio::Device& device) const;
    Result<std::unique_ptr<devices::vfio::Device>> take(const VfioConfig& config);
    [[nodiscard]] std::size_t alive() const;
    [[nodiscard]] bool in_use(const devices::vfio::PciAddress& host) const;

    AssignedContext context_;
    devices::vfio::Session session_;
    Registration sum_up_{};
    bool registered_{false}; ///< RAM is known to the session
    bool running_{false};
    std::map<std::string, std::unique_ptr<devices::vfio::Device>> opened_{}; ///< by id, until made
    std::vector<Made> made_{};
    std::deque<Making> making_{}; ///< the first one is at work
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};
    std::jthread pinning_{}; ///< of the first; last, so that it ends first
};

} // namespace inox
