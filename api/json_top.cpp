// SPDX-License-Identifier: Apache-2.0
#include "api/json_top.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <sstream>

#include "vmm/base/plain_text.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::api {
namespace {

using Json = nlohmann::json;

/// What others chose: on its way to a terminal.
std::string plain(std::string_view text) {
    std::string out{text};
    make_plain(out);
    return out;
}

std::string text_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? plain(found->get<std::string>()) : "";
}
std::uint64_t number_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

std::string padded(std::string text, std::size_t width) {
    text.resize(std::max(width, text.size()), ' ');
    return text;
}

/// inox_block_read_bytes_total{id="root"} 1: only counters.
void read_counter(std::string_view line, TopSample& sample) {
    constexpr std::string_view prefix = "inox_";
    constexpr std::string_view suffix = "_total";
    const auto space = line.rfind(' ');
    const auto brace = line.find('{');
    auto name = line.substr(0, std::min(brace, space));
    if (!name.starts_with(prefix) || !name.ends_with(suffix) || space == line.npos)
        return;
    name = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    std::string_view id;
    if (const auto quote = line.find('"'); brace != line.npos && quote != line.npos)
        id = line.substr(quote + 1, line.find('"', quote + 1) - quote - 1);
    const auto group = name.find('_');
    std::uint64_t value = 0;
    std::from_chars(line.data() + space + 1, line.data() + line.size(), value);
    sample.counters[plain(name.substr(0, group)) + (id.empty() ? "" : " ") + plain(id) + "\t" +
                    plain(group == name.npos ? "" : name.substr(group + 1))] = value;
}

/// 0 where a counter began again, as after a reboot.
std::uint64_t since(std::uint64_t before, std::uint64_t now) { return now >= before ? now - before : 0; }

/// Whether a counter is of what should not happen.
bool is_fault(std::string_view name) {
    return name.contains("fault") || name.contains("fail") || name.contains("unclaimed") || name.contains("invalid") ||
           name.contains("lost") || name.contains("missed");
}

std::string rate_text(double rate) {
    if (rate >= 1e9)
        return format("%.1fG", rate / 1e9);
    if (rate >= 1e6)
        return format("%.1fM", rate / 1e6);
    if (rate >= 1e4)
        return format("%.1fk", rate / 1e3);
    return format(rate >= 10 ? "%.0f" : "%.1f", rate);
}

std::string mib(std::uint64_t bytes) { return format("%.1f MiB", static_cast<double>(bytes) / 1048576); }

/// Counters that moved; faults that were ever counted.
std::string counter_rows(const TopSample& before, const TopSample& now, double seconds, bool faults) {
    std::string rows;
    for (const auto& [name, value] : now.counters) {
        const auto old = before.counters.find(name);
        const auto moved = since(old == before.counters.end() ? 0 : old->second, value);
        const auto tab = name.find('\t');
        if (name == "vcpu\texits" || is_fault(name) != faults || (faults ? value == 0 : moved == 0))
            continue;
        rows += format("%10s ", rate_text(static_cast<double>(moved) / seconds).c_str()) +
                format("%14llu  ", static_cast<unsigned long long>(value)) + padded(name.substr(0, tab), 18) + " " +
                name.substr(tab + 1) + "\n";
    }
    return rows;
}

std::string exit_rows(const TopSample& before, const TopSample& now, double seconds, std::size_t most) {
    std::map<std::string_view, std::uint64_t> old;
    for (const auto& place : before.places)
        old[place.what] = place.count;
    std::vector<std::pair<std::uint64_t, std::string_view>> moved;
    for (const auto& place : now.places)
        if (const auto count = since(old[place.what], place.count); count != 0)
            moved.emplace_back(count, place.what);
    std::ranges::stable_sort(moved, std::greater{}, [](const auto& one) { return one.first; });
    std::uint64_t all = 0;
    for (const auto& [count, unused] : moved)
        all += count;
    std::string rows;
    for (const auto& [count, what] : std::span{moved}.first(std::min(moved.size(), most)))
        rows += format("%10s %5.1f %%  ", rate_text(static_cast<double>(count) / seconds).c_str(),
                       100 * static_cast<double>(count) / static_cast<double>(all)) +
                std::string{what} + "\n";
    return rows;
}

/// What fits.
std::string cut(const std::string& text, TopSize size) {
    std::string out;
    std::istringstream lines{text};
    std::size_t rows = 0;
    for (std::string line; std::getline(lines, line) && rows < size.rows; ++rows)
        out += line.substr(0, size.columns) + "\n";
    return out;
}

} // namespace

Result<TopSample> top_sample(std::string_view status, std::string_view exits, std::string_view metrics,
                             std::chrono::steady_clock::time_point at) {
    const auto about = Json::parse(status, nullptr, false);
    const auto table = Json::parse(exits, nullptr, false);
    if (!about.is_object() || !table.is_object() || !table.contains("exits") || !table.at("exits").is_array())
        return fail(Errc::host_error, "the answer is not that of inox", "use an inox of the same version");
    TopSample sample{.at = at,
                     .title = text_of(about, "id") + "  " + text_of(about, "state") + "  " +
                              std::to_string(number_of(about, "vcpus")) + " CPUs",
                     .memory = number_of(about, "memory_bytes"),
                     .pid = static_cast<long>(number_of(about, "pid")),
                     .exits = number_of(about, "exits")};
    for (const auto& one : table.at("exits"))
        if (one.is_object())
            sample.places.push_back({padded(text_of(one, "reason"), 12) + " " + padded(text_of(one, "access"), 5) +
                                         " " + padded(text_of(one, "address"), 12) + " " + text_of(one, "place"),
                                     number_of(one, "count")});
    std::istringstream lines{std::string{metrics}};
    for (std::string line; std::getline(lines, line);)
        read_counter(line, sample);
    return sample;
}

std::string top_frame(const TopSample& before, const TopSample& now, TopSize size) {
    const double seconds = std::max(std::chrono::duration<double>{now.at - before.at}.count(), 0.001);
    std::string out = "inox " + now.title + "  " + mib(now.memory) +
                      (now.resident ? ", " + mib(*now.resident) + " resident with inox" : "") + "\n" +
                      rate_text(static_cast<double>(since(before.exits, now.exits)) / seconds) + " exits/s\n";
    const auto section = [&](const char* title, const std::string& rows) {
        if (!rows.empty())
            out += std::string{"\n"} + title + "\n" + rows;
    };
    const std::size_t most = std::max<std::size_t>(size.rows / 2, 5);
    section("   EXITS/s   SHARE  REASON       HOW   ADDRESS      PLACE", exit_rows(before, now, seconds, most));
    section("     PER s          TOTAL  DEVICE             COUNTER", counter_rows(before, now, seconds, false));
    section("     PER s          TOTAL  FAULTS OF", counter_rows(before, now, seconds, true));
    return cut(out, size);
}

} // namespace inox::api
