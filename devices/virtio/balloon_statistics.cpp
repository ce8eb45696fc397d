// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon_statistics.hpp"

#include <linux/virtio_balloon.h>

#include "vmm/base/bytes.hpp"

namespace inox::devices::virtio {

static_assert(sizeof(virtio_balloon_stat) == BalloonStatistics::entry_size);
static_assert(VIRTIO_BALLOON_S_NR <= BalloonStatistics::names.size() && VIRTIO_BALLOON_S_HTLB_PGFAIL == 9);

BalloonStatistics BalloonStatistics::parse(std::span<const std::byte> report) {
    BalloonStatistics statistics;
    for (; report.size() >= entry_size; report = report.subspan(entry_size)) {
        const auto tag = load_le<std::uint16_t>(report.first(2));
        if (tag < statistics.values.size())
            statistics.values[tag] = load_le<std::uint64_t>(report.subspan(2, 8));
    }
    return statistics;
}

} // namespace inox::devices::virtio
