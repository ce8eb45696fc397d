// SPDX-License-Identifier: Apache-2.0
// What a device of each kind counts.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "devices/virtio/device.hpp"
#include "vmm/instance/metrics.hpp"

namespace inox {

/// Adds the samples of one device, or of what there is one of.
class Collector {
public:
    Collector(Samples& samples, std::string group, std::string id)
        : samples_{samples}, group_{std::move(group)}, id_{std::move(id)} {}
    void count(const char* name, std::uint64_t value) { samples_.push_back({group_, id_, name, value, {}}); }
    void gauge(const char* name, std::uint64_t value) {
        samples_.push_back({group_, id_, name, value, Sample::Type::gauge});
    }

private:
    Samples& samples_;
    std::string group_;
    std::string id_;
};

/// What it counts beside what every virtio device counts. `device` is of this kind. Each kind defines it in kinds/;
/// without it the program does not link. On the loop's thread.
template <class Options> struct Meter {
    static void collect(const devices::virtio::Device& device, const Machine& machine, Collector& out);
};

} // namespace inox
