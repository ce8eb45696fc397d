// SPDX-License-Identifier: Apache-2.0
// The VM's one interrupt routing table (KVM_SET_GSI_ROUTING replaces it whole, and each call may wait for a grace
// period, so nothing is set before the first MSI route).
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "vmm/bus/irq.hpp"

namespace inox {

/// Thread-safe.
class IrqRouter {
public:
    /// `capacity`: routes KVM accepts (KVM_CAP_IRQ_ROUTING).
    IrqRouter(int vm_fd, unsigned capacity);

    Result<std::unique_ptr<IrqLine>> line(unsigned gsi, TriggerMode mode);
    Result<std::unique_ptr<MsiVector>> msi();

    struct Route {
        unsigned gsi;
        MsiMessage message;
    };
    /// MSI routes in force, for display.
    [[nodiscard]] std::vector<Route> routes() const;

    // For the vectors.
    Result<void> set(unsigned gsi, MsiMessage message);
    void release(unsigned gsi);
    Result<void> attach(unsigned gsi, const EventFd& event, int resample_fd) const;
    void detach(unsigned gsi, const EventFd& event) const;

private:
    Result<void> apply(); // under mutex_
    int vm_fd_;
    unsigned capacity_;
    mutable std::mutex mutex_;
    std::map<unsigned, MsiMessage> messages_; // guarded by mutex_
    std::vector<bool> used_;                  // guarded by mutex_; index 0 is layout::first_msi_gsi
};

} // namespace inox
