// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/block.hpp"
#include "vmm/instance/meter.hpp"

namespace inox {

template <>
void Meter<DriveConfig>::collect(const devices::virtio::Device& device, const Machine& /*machine*/, Collector& out) {
    const auto& disk = static_cast<const devices::virtio::Block&>(device);
    const auto& counters = disk.block_counters();
    out.count("read_count", counters.reads);
    out.count("write_count", counters.writes);
    out.count("flush_count", counters.flushes);
    out.count("discard_count", counters.discards);
    out.count("read_bytes", counters.read_bytes);
    out.count("write_bytes", counters.write_bytes);
    out.count("execute_fails", counters.failures);
    out.count("rate_limiter_throttled_events", counters.throttled);
}

} // namespace inox
