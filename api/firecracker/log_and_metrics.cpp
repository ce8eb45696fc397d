// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/log_and_metrics.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <pthread.h>
#include <unistd.h>
#include <utility>

namespace inox::api::firecracker {
namespace {

std::string log_prefix(const log::Site& site, const log::Style& style) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm time{};
    ::gmtime_r(&now.tv_sec, &time);
    std::array<char, 16> thread{"main"};
    if (::gettid() != ::getpid())
        ::pthread_getname_np(::pthread_self(), thread.data(), thread.size());
    std::string out =
        format("%04d-%02d-%02dT%02d:%02d:%02d.%09ld [%s:%s", time.tm_year + 1900, time.tm_mon + 1, time.tm_mday,
               time.tm_hour, time.tm_min, time.tm_sec, now.tv_nsec, style.id.c_str(), thread.data());
    if (style.show_level)
        out += std::string{":"} + log::level_name(site.level);
    if (style.show_origin)
        out += ":" + std::string{log::source_file(site.at.file_name())} + ":" + std::to_string(site.at.line());
    return out + "] ";
}

} // namespace

const LogShape log_shape{log_prefix, log::Level::info};

std::string metrics_line(const Samples& samples, const std::string& id, const MetricsConfig& config) {
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
    if (config.emit_id)
        out += ",\"id\":\"" + id + "\""; // an id has no characters that need escapes
    if (!config.properties.empty())
        out += ",\"properties\":" + config.properties;
    for (const auto& [group, values] : groups) {
        out += ",\"" + group + "\":{";
        for (std::size_t i = 0; i < values.size(); ++i)
            out += (i == 0 ? "\"" : ",\"") + values[i].first + "\":" + std::to_string(values[i].second);
        out += "}";
    }
    return out + "}\n";
}

} // namespace inox::api::firecracker
