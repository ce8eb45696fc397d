// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/metrics.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <unistd.h>
#include <utility>

#include "vmm/base/log.hpp"
#include "vmm/instance/meter.hpp"

namespace inox {
namespace {

void collect_device(const Machine& machine, const DeviceName& name, const devices::virtio::Device& device,
                    Samples& samples) {
    DeviceKinds::with(name.kind, [&]<class Options>() {
        constexpr auto group = Kind<Options>::metrics_group;
        Collector out{samples, std::string{group.empty() ? Kind<Options>::name : group}, name.id};
        const auto& counters = device.counters();
        out.count("queue_event_count", counters.kicks);
        out.count("irq_trigger_count", counters.interrupts);
        out.count("event_fails", counters.broken_rings);
        out.count("invalid_reqs_count", counters.bad_requests);
        out.gauge("activated", device.active() ? 1 : 0);
        Meter<Options>::collect(device, machine, out);
    });
}

} // namespace

void collect(const Machine& machine, Samples& samples) {
    Collector{samples, "vcpu", {}}.count("exits", machine.exits());
    Collector{samples, "vcpu", {}}.gauge("running", machine.state() == Machine::State::running ? 1 : 0);
    Collector{samples, "bus", {}}.count("unclaimed_accesses", machine.unclaimed_accesses());
    for (const auto& status : machine.devices().list())
        if (const auto device = machine.devices().device(status.name))
            collect_device(machine, status.name, *device, samples);
}

std::string prometheus_text(const Samples& samples) {
    std::map<std::string, std::string> families;
    for (const auto& sample : samples) {
        const bool counter = sample.type == Sample::Type::counter;
        const std::string family = "inox_" + sample.group + "_" + sample.name + (counter ? "_total" : "");
        auto& lines = families[family];
        if (lines.empty())
            lines = "# TYPE " + family + (counter ? " counter\n" : " gauge\n");
        lines += family + (sample.id.empty() ? "" : "{id=\"" + sample.id + "\"}") + " " + std::to_string(sample.value) +
                 "\n";
    }
    std::string out;
    for (const auto& [unused, lines] : families)
        out += lines;
    return out;
}

Result<MetricsFile> MetricsFile::open(const std::string& path) { return MetricsFile{TRY(open_output(path)), path}; }

bool MetricsFile::write_pending() {
    while (!pending_.empty()) {
        const auto written = ::write(file_.get(), pending_.data(), pending_.size());
        if (written < 0) {
            if (errno != EAGAIN && !std::exchange(told_, true))
                log::write(log::Level::warning, "metrics file '%s' cannot be written: %s", path_.c_str(),
                           std::strerror(errno));
            return false;
        }
        pending_.erase(0, static_cast<std::size_t>(written));
    }
    return true;
}

void MetricsFile::write(std::string line) {
    if (!write_pending()) {
        ++dropped_;
        return;
    }
    pending_ = std::move(line);
    const auto whole = pending_.size();
    if (!write_pending() && pending_.size() == whole) {
        pending_.clear(); // nothing of this line was written, so the next one replaces it
        ++dropped_;
    }
}

} // namespace inox
