// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/pin_progress.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "devices/vfio/lock_limit.hpp"

namespace devices::vfio {
namespace {

void watch(const std::stop_token& stop, const std::string& root, std::uint64_t before, std::uint64_t total,
           const PinProgress::Report& report) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock{mutex};
    bool reported = false;
    while (!wake.wait_for(lock, stop, std::chrono::seconds{1}, [&] { return stop.stop_requested(); })) {
        const auto now = locked_now(root);
        report(now > before ? std::min(now - before, total) : 0, total);
        reported = true;
    }
    if (reported)
        report(total, total);
}

} // namespace

PinProgress::PinProgress(const std::string& root, std::uint64_t total, const Report& report) {
    if (report && total >= large)
        thread_ = std::jthread{[root, before = locked_now(root), total, &report](const std::stop_token& stop) {
            watch(stop, root, before, total, report);
        }};
}

} // namespace devices::vfio
