// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/metrics.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <numeric>
#include <unistd.h>
#include <utility>

#include "devices/virtio/balloon.hpp"
#include "devices/virtio/block/block.hpp"
#include "devices/virtio/console.hpp"
#include "devices/virtio/entropy.hpp"
#include "devices/virtio/fs.hpp"
#include "devices/virtio/iommu.hpp"
#include "devices/virtio/net/net.hpp"
#include "devices/virtio/vsock/vsock.hpp"
#include "vmm/base/log.hpp"

namespace inox {
namespace {

using devices::virtio::Block;
using devices::virtio::Net;

class Collector {
public:
    Collector(Samples& samples, std::string group, std::string id)
        : samples_{samples}, group_{std::move(group)}, id_{std::move(id)} {}
    void count(const char* name, std::uint64_t value) { samples_.push_back({group_, id_, name, value, {}}); }
    void gauge(const char* name, std::uint64_t value) {
        samples_.push_back({group_, id_, name, value, Sample::Kind::gauge});
    }

private:
    Samples& samples_;
    std::string group_;
    std::string id_;
};

void collect_disk(const Block& disk, Collector out) {
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

void collect_net(const Net& net, Collector out) {
    const auto& traffic = net.traffic();
    out.count("rx_packets_count", traffic.received);
    out.count("rx_bytes_count", traffic.received_bytes);
    out.count("rx_fails", traffic.received_dropped);
    out.count("tx_packets_count", traffic.sent);
    out.count("tx_bytes_count", traffic.sent_bytes);
    out.count("tx_fails", traffic.sent_dropped);
    out.count("tap_lost_count", traffic.losses);
    out.gauge("link_up", net.link_up() ? 1 : 0);
}

void collect_vsock(const devices::virtio::Vsock& vsock, Collector out) {
    const auto& traffic = vsock.traffic();
    out.count("rx_bytes_count", traffic.to_guest_bytes);
    out.count("tx_bytes_count", traffic.to_host_bytes);
    out.count("conns_added", traffic.opened);
    out.count("conns_refused", traffic.refused);
    out.count("conns_refused_limit", traffic.refused_limit);
    out.gauge("conns_limit", vsock.limit());
    out.gauge("conns_open", traffic.open);
}

void collect_iommu(const devices::virtio::Iommu& iommu, const iommu::Domains& domains, Samples& samples) {
    static constexpr std::array names{"private_requests", "attach_requests", "detach_requests",
                                      "map_requests",     "unmap_requests",  "probe_requests"};
    Collector out{samples, "iommu", "iommu"};
    const auto counts = iommu.requests();
    for (std::size_t i = 0; i < names.size(); ++i)
        out.count(names[i], counts.types[i]);
    out.count("refused_requests",
              std::accumulate(counts.statuses.begin() + 1, counts.statuses.end(), std::uint64_t{0}));
    out.count("unanswered_requests", counts.unknown);
    out.count("faults", domains.faults().total());
    out.count("faults_untold", iommu.faults_dropped());
    out.gauge("mappings", domains.mapping_count());
    iommu::EndpointMemory::Counts sum;
    for (const auto& endpoint : domains.endpoints()) {
        sum.hits += endpoint.counts.hits;
        sum.misses += endpoint.counts.misses;
    }
    out.count("translation_hits", sum.hits);
    out.count("translation_misses", sum.misses);
}

void collect_device(const DeviceName& name, const devices::virtio::Device& device, Samples& samples) {
    const std::string group = name.kind == DeviceKind::disk ? "block" : std::string{kind_name(name.kind)};
    Collector out{samples, group, name.id};
    const auto& counters = device.counters();
    out.count("queue_event_count", counters.kicks);
    out.count("irq_trigger_count", counters.interrupts);
    out.count("event_fails", counters.broken_rings);
    out.count("invalid_reqs_count", counters.bad_requests);
    out.gauge("activated", device.active() ? 1 : 0);
    if (const auto* disk = dynamic_cast<const Block*>(&device))
        collect_disk(*disk, out);
    else if (const auto* net = dynamic_cast<const Net*>(&device))
        collect_net(*net, out);
    else if (const auto* vsock = dynamic_cast<const devices::virtio::Vsock*>(&device))
        collect_vsock(*vsock, out);
    else if (const auto* entropy = dynamic_cast<const devices::virtio::Entropy*>(&device))
        out.count("entropy_bytes", entropy->bytes_given());
    else if (const auto* balloon = dynamic_cast<const devices::virtio::Balloon*>(&device)) {
        out.gauge("target_bytes", balloon->target());
        out.gauge("actual_bytes", balloon->actual());
        out.count("released_bytes", balloon->released());
    }
}

} // namespace

void collect(const Machine& machine, Samples& samples) {
    Collector{samples, "vcpu", {}}.count("exits", machine.exits());
    Collector{samples, "vcpu", {}}.gauge("running", machine.state() == Machine::State::running ? 1 : 0);
    for (const auto& status : machine.devices().list())
        if (const auto device = machine.devices().device(status.name))
            collect_device(status.name, *device, samples);
    const auto iommu = machine.devices().device({DeviceKind::iommu, "iommu"});
    if (iommu && machine.iommu())
        collect_iommu(static_cast<const devices::virtio::Iommu&>(*iommu), *machine.iommu(), samples);
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
