// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/interrupt_wiring.hpp"

#include <algorithm>

namespace inox::devices::vfio {
namespace {

Interrupt index_of(InterruptWiring::Mode mode) {
    switch (mode) {
    case InterruptWiring::Mode::msi:
        return Interrupt::msi;
    case InterruptWiring::Mode::msix:
        return Interrupt::msix;
    default:
        return Interrupt::intx;
    }
}

} // namespace

InterruptWiring::InterruptWiring(HostDevice& device)
    : device_{device}, msix_(device.interrupt(Interrupt::msix).count, -1) {}

void InterruptWiring::use_none() noexcept {
    const std::lock_guard lock{mutex_};
    leave();
}

void InterruptWiring::use_intx(int trigger, int resample) noexcept {
    const std::lock_guard lock{mutex_};
    if (closed_ || mode_ == Mode::intx)
        return;
    leave();
    const int eventfds[] = {trigger};
    if (!succeeded(device_.enable(Interrupt::intx, 0, eventfds), "INTx"))
        return;
    mode_ = Mode::intx;
    succeeded(device_.unmask_intx_on(resample), "unmasking INTx");
}

void InterruptWiring::use_msi(std::span<const int> eventfds) noexcept {
    const std::lock_guard lock{mutex_};
    if (closed_ || (mode_ == Mode::msi && std::ranges::equal(msi_, eventfds)))
        return;
    if (mode_ != Mode::msi || msi_.size() != eventfds.size())
        leave();
    msi_.assign(eventfds.begin(), eventfds.end());
    if (succeeded(device_.enable(Interrupt::msi, 0, msi_), "MSI"))
        mode_ = Mode::msi;
}

void InterruptWiring::use_msix() noexcept {
    const std::lock_guard lock{mutex_};
    if (closed_ || mode_ == Mode::msix)
        return;
    leave();
    enter_msix();
}

/// If the host can add vectors later, only those in use are enabled. Otherwise all are, because adding one later would
/// switch the running ones off for a moment.
void InterruptWiring::enter_msix() noexcept {
    const auto last = std::find_if(msix_.rbegin(), msix_.rend(), [](int eventfd) { return eventfd >= 0; });
    const auto used = static_cast<std::size_t>(std::max<std::ptrdiff_t>(msix_.rend() - last, 1));
    const bool resizable = device_.interrupt(Interrupt::msix).resizable;
    if (!resizable && used < msix_.size() && enable_msix(msix_.size()))
        return;
    enable_msix(used);
}

bool InterruptWiring::enable_msix(std::size_t count) noexcept {
    const auto vectors = std::span{msix_}.first(std::min(count, msix_.size()));
    if (!succeeded(device_.enable(Interrupt::msix, 0, vectors), "MSI-X"))
        return false;
    mode_ = Mode::msix;
    msix_enabled_ = vectors.size();
    return true;
}

void InterruptWiring::set_msix_vector(unsigned vector, int eventfd) noexcept {
    const std::lock_guard lock{mutex_};
    if (closed_ || vector >= msix_.size() || msix_[vector] == eventfd)
        return;
    msix_[vector] = eventfd;
    if (mode_ != Mode::msix)
        return;
    if (vector < msix_enabled_ || device_.interrupt(Interrupt::msix).resizable) {
        succeeded(device_.enable(Interrupt::msix, vector, std::span{msix_}.subspan(vector, 1)), "an MSI-X vector");
        return;
    }
    // The host could not enable all vectors at first, so interrupts that arrive during this change are lost.
    succeeded(device_.disable(Interrupt::msix), "switching MSI-X off");
    enable_msix(vector + 1);
}

void InterruptWiring::leave() noexcept {
    if (mode_ == Mode::none)
        return;
    if (mode_ == Mode::intx)
        succeeded(device_.unmask_intx_on(-1), "leaving INTx");
    succeeded(device_.disable(index_of(mode_)), "switching interrupts off");
    if (mode_ == Mode::msix)
        std::ranges::fill(msix_, -1); // the guest sets each vector in use again when it enables MSI-X again
    msix_enabled_ = 0;
    mode_ = Mode::none;
}

void InterruptWiring::close() noexcept {
    const std::lock_guard lock{mutex_};
    leave();
    closed_ = true;
}

bool InterruptWiring::succeeded(const Result<void>& done, const char* what) noexcept {
    if (!done && limiter_.allow())
        log::write(log::Level::warning, "%s: %s: %s", device_.name().c_str(), what, done.error().message().c_str());
    return done.has_value();
}

} // namespace inox::devices::vfio
