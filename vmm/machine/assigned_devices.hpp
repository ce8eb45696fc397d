// SPDX-License-Identifier: Apache-2.0
// The host devices of one machine: opened, their DMA mapped, and made functions of the guest's PCI bus.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "devices/pci/function.hpp"
#include "devices/vfio/pci_address.hpp"
#include "iommu/domains.hpp"
#include "iommu/pasid/pasid_service.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/base/work_thread.hpp"
#include "vmm/bus/guest_mappings.hpp"
#include "vmm/bus/irq.hpp"
#include "vmm/config/config.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::devices::vfio {
class AddressSpace;
class Device;
class Kernel;
class PciFunction;
class Session;
struct HostDeviceEvent;
} // namespace inox::devices::vfio

namespace inox {

struct AssignedContext {
    Irqs& irqs;
    GuestMappings& mappings;
    EventLoop& loop;
    const GuestMemory& memory;
    iommu::Domains* iommu{}; ///< devices are behind it, each alone in its IOMMU group; null: they reach all memory
    std::function<Result<Registration>(int)> add_to_kvm;
    iommu::PasidService* pasids{};   ///< null: a machine without PASIDs
    devices::vfio::Kernel* kernel{}; ///< null: the host's
    std::string root{};              ///< before every path of the host's
};

/// On the loop's thread, or before it runs. Outlives the functions it made.
///
/// Opening, pinning, unpinning and closing take the host's time, so from guest_starts() on they are the work of one
/// thread beside the loop, one piece after the other; the session and all that devices share belong to that thread
/// then. A function that nobody uses any more goes to it, too: whatever comes later finds the device closed.
class AssignedDevices {
public:
    using OnEvent = std::function<void(const devices::vfio::HostDeviceEvent&)>;
    using Function = std::shared_ptr<devices::pci::Function>;
    explicit AssignedDevices(AssignedContext context);
    AssignedDevices(const AssignedDevices&) = delete;
    AssignedDevices& operator=(const AssignedDevices&) = delete;
    ~AssignedDevices();

    /// Opens devices that make() will be asked for: a bus can be reset only while every function on it is open.
    Result<void> open(std::span<const VfioConfig* const> devices);
    /// The device as a PCI function, before the guest runs. Without an IOMMU for the guest it reaches all guest memory
    /// from here on. In a machine with PASIDs it has them too where kernel, IOMMU and device can, and the PASIDs' view
    /// says why where not.
    Result<Function> make(const VfioConfig& config, OnEvent on_event);
    using Done = std::move_only_function<void(Result<Function>)>;
    /// make() for a machine that runs, beside the loop. The function comes attached for the address `at`, where it has
    /// to be added. `done` is called on the loop, perhaps before this returns. One device after the other.
    void make_later(const VfioConfig& config, devices::pci::Address at, OnEvent on_event, Done done);
    /// Whether make_later() is at work on a device of this id.
    [[nodiscard]] bool making(const std::string& id) const;
    /// Cancels it: calls its `done` with wrong_state, and what was made goes. False when there is none.
    bool cancel(const std::string& id);
    /// The same for all; returns once the thread is gone, which is soon unless the host hangs. What is asked for later
    /// is done at once.
    void stop();
    /// From now on devices are in use: no bus reset may hit them.
    void guest_starts() { running_ = true; }

private:
    struct Made {
        devices::vfio::PciAddress host;
        const devices::vfio::AddressSpace* space; ///< for comparison only
        devices::vfio::PciFunction* function;
    };

    struct Making {
        VfioConfig config;
        devices::pci::Address at;
        OnEvent on_event;
        Done done;                              ///< null: cancelled
        std::optional<Result<Function>> made{}; ///< by the thread
    };

    // On the loop.
    void make_next();
    void on_made();
    void apart(WorkThread::Work work);
    void release(std::unique_ptr<devices::vfio::PciFunction> function);

    // By the thread, or before the guest runs.
    Result<Function> make_at(const Making& making, const std::stop_token& stop);
    Result<std::unique_ptr<devices::vfio::Device>> prepare(const VfioConfig& config);
    Result<void> map_in_pieces(devices::vfio::AddressSpace& space, const std::stop_token& stop);
    Result<std::shared_ptr<devices::vfio::PciFunction>> finish(const VfioConfig& config, OnEvent on_event,
                                                               std::unique_ptr<devices::vfio::Device> device);
    void sum_up_later();
    Result<void> register_ram();
    Result<Registration> attach(devices::vfio::Device& device, devices::pci::Address at);
    Result<Registration> attach_pasids(devices::vfio::Device& device, iommu::EndpointId endpoint);
    [[nodiscard]] Result<void> check_alone(const devices::vfio::Device& device) const;
    Result<std::unique_ptr<devices::vfio::Device>> take(const VfioConfig& config);
    [[nodiscard]] bool in_use(const devices::vfio::PciAddress& host) const;

    AssignedContext context_;
    std::atomic<bool> running_{false};
    bool stopped_{false};

    // The thread's.
    std::unique_ptr<devices::vfio::Session> session_;
    bool registered_{false};                                               ///< RAM is known to the session
    std::map<std::string, std::unique_ptr<devices::vfio::Device>> opened_; ///< by id, until made
    std::vector<Made> made_{};                                             ///< until closed

    // The loop's.
    Registration sum_up_{};
    std::deque<Making> making_{}; ///< the first one is at work
    bool at_work_{false};
    std::stop_source stop_making_{}; ///< of the first
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};

    WorkThread thread_{ThreadKind::assigned, "the thread that opens and closes assigned devices",
                       "vfio-worker"}; ///< last, so that it ends first
};

} // namespace inox
