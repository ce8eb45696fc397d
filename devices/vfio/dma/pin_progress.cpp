// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/pin_progress.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>

#include "devices/vfio/dma/lock_limit.hpp"
#include "vmm/base/thread_kind.hpp"

namespace inox::devices::vfio {
void PinProgress::watch(const std::stop_token& stop, const std::string& root, std::uint64_t before, std::uint64_t total,
                        const Report& report) const {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock{mutex};
    bool reported = false;
    while (!wake.wait_for(lock, stop, std::chrono::seconds{1}, [&] { return stop.stop_requested(); })) {
        const auto now = locked_now(root);
        const auto pinned = now > before ? now - before : 0;
        report(std::min(std::max(pinned, gathered_.load(std::memory_order_relaxed)), total), total);
        reported = true;
    }
    if (reported)
        report(total, total);
}

PinProgress::PinProgress(const std::string& root, std::uint64_t total, const Report& report) {
    if (!report || total < large)
        return;
    try {
        thread_ = std::jthread{[this, root, before = locked_now(root), total, &report](const std::stop_token& stop) {
            enter_thread(ThreadKind::assigned, "pin-progress");
            watch(stop, root, before, total, report);
        }};
    } catch (const std::system_error&) {
        // Pinning goes on without progress messages.
    }
}

} // namespace inox::devices::vfio
