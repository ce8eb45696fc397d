// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/metrics.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
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
    for (const auto& status : machine.devices().list())
        if (const auto device = machine.devices().device(status.name))
            collect_device(machine, status.name, *device, samples);
}

std::string metrics_line(const Samples& samples, std::string_view head) {
    using Values = std::vector<std::pair<std::string, std::uint64_t>>;
    std::vector<std::pair<std::string, Values>> groups;
    const auto values_of = [&](const std::string& name) -> Values& {
        const auto found = std::ranges::find(groups, name, [](const auto& group) { return group.first; });
        return found == groups.end() ? groups.emplace_back(name, Values{}).second : found->second;
    };
    const auto add = [](Values& values, const Sample& sample) {
        const auto found = std::ranges::find(values, sample.name, [](const auto& value) { return value.first; });
        if (found == values.end())
            values.emplace_back(sample.name, sample.value);
        else
            found->second += sample.value;
    };
    for (const auto& sample : samples) {
        add(values_of(sample.group), sample);
        if (!sample.id.empty())
            add(values_of(sample.group + "_" + sample.id), sample);
    }
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    std::string out =
        "{\"utc_timestamp_ms\":" + std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
    if (!head.empty())
        out += "," + std::string{head};
    for (const auto& [group, values] : groups) {
        out += ",\"" + group + "\":{";
        for (std::size_t i = 0; i < values.size(); ++i)
            out += (i == 0 ? "\"" : ",\"") + values[i].first + "\":" + std::to_string(values[i].second);
        out += "}";
    }
    return out + "}\n";
}

std::string prometheus_text(const Samples& samples) {
    std::map<std::string, std::string> families;
    for (const auto& sample : samples) {
        const bool counter = sample.kind == Sample::Kind::counter;
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
        pending_.clear(); // nothing of it is out: the next line is news
        ++dropped_;
    }
}

} // namespace inox
