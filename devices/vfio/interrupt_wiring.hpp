// SPDX-License-Identifier: Apache-2.0
// Which of INTx, MSI and MSI-X the host's device signals, and by which eventfds. The kernel injects: no code of inox
// runs between the device and the guest.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "devices/vfio/host_device.hpp"
#include "vmm/base/log.hpp"

namespace inox::devices::vfio {

/// Thread-safe. A host that refuses leaves the guest without these interrupts, with a log line.
class InterruptWiring {
public:
    /// Only one can be enabled at the host at a time.
    enum class Mode : std::uint8_t { none, intx, msi, msix };

    explicit InterruptWiring(HostDevice& device);
    InterruptWiring(const InterruptWiring&) = delete;
    InterruptWiring& operator=(const InterruptWiring&) = delete;
    ~InterruptWiring() { close(); }

    void use_none() noexcept;
    /// `resample` becomes readable at the guest's end of interrupt.
    void use_intx(int trigger, int resample) noexcept;
    /// One eventfd for each vector, -1 for a silent one.
    void use_msi(std::span<const int> eventfds) noexcept;
    /// With the vectors made known by set_msix_vector.
    void use_msix() noexcept;
    /// The vector is in use from now on. Also before use_msix().
    void set_msix_vector(unsigned vector, int eventfd) noexcept;
    /// Switches all off for good.
    void close() noexcept;

private:
    void leave() noexcept;
    void enter_msix() noexcept;
    bool enable_msix(std::size_t count) noexcept;
    bool succeeded(const Result<void>& done, const char* what) noexcept;

    HostDevice& device_;
    log::Throttle limiter_{};

    mutable std::mutex mutex_; // guards all below
    Mode mode_{Mode::none};
    std::vector<int> msi_{};
    std::vector<int> msix_{};
    std::size_t msix_enabled_{}; ///< vectors the host has set aside
    bool closed_{};
};

} // namespace inox::devices::vfio
