// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/timeline.hpp"

#include <algorithm>
#include <fcntl.h>
#include <string_view>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox {

std::uint64_t clock_ns(clockid_t clock) noexcept {
    timespec now{};
    ::clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

namespace {

struct Label {
    const char* name;
    const char* phase; ///< what ends with the step
    const char* colour;
};

constexpr std::array<Label, Timeline::steps> labels{{
    {"process_started", "", ""},
    {"config_read", "options and files", "#607d8b"},
    {"kvm_ready", "virtual machine", "#3f7cac"},
    {"memory_ready", "guest memory", "#4a9c9c"},
    {"kernel_loaded", "kernel and tables", "#5aa469"},
    {"first_instruction", "virtual CPUs", "#c9a227"},
    {"first_serial_byte", "guest, to its first byte", "#d97b29"},
    {"user_space_up", "guest, to user space", "#c8553d"},
    {"ended", "guest, to its end", "#8d6a9f"},
}};

struct Reached {
    std::size_t step;
    std::uint64_t at_ns;
};

std::vector<Reached> in_time_order(const Timeline& timeline) {
    std::vector<Reached> reached;
    for (std::size_t i = 0; i < Timeline::steps; ++i) {
        const auto at = timeline.at(static_cast<Timeline::Step>(i));
        if (i == 0 || at != 0)
            reached.push_back({i, at});
    }
    std::stable_sort(reached.begin(), reached.end(), [](auto& a, auto& b) { return a.at_ns < b.at_ns; });
    return reached;
}

std::string duration(std::uint64_t ns) {
    const auto us = static_cast<double>(ns) / 1e3;
    if (us < 1000)
        return format("%.0f \u00b5s", us);
    if (us < 1e6)
        return format("%.1f ms", us / 1e3);
    return format("%.2f s", us / 1e6);
}

} // namespace

void Timeline::mark(Step step) noexcept {
    std::uint64_t unset = 0;
    times_[static_cast<std::size_t>(step)].compare_exchange_strong(unset, clock_ns(CLOCK_MONOTONIC),
                                                                   std::memory_order_relaxed);
}

void Timeline::set_start(std::uint64_t monotonic_us) noexcept {
    times_[0].store(monotonic_us * 1000, std::memory_order_relaxed);
}

std::uint64_t Timeline::at(Step step) const noexcept {
    const auto start = times_[0].load(std::memory_order_relaxed);
    const auto time = times_[static_cast<std::size_t>(step)].load(std::memory_order_relaxed);
    return time > start ? time - start : 0;
}

const char* Timeline::name(Step step) { return labels[static_cast<std::size_t>(step)].name; }

std::string Timeline::json() const {
    std::string out = "{\"steps\":[";
    std::uint64_t previous = 0;
    for (const Reached& reached : in_time_order(*this)) {
        out += format("%s\n  {\"name\":\"%s\",\"at_us\":%.1f,\"took_us\":%.1f}", reached.at_ns == 0 ? "" : ",",
                      labels[reached.step].name, static_cast<double>(reached.at_ns) / 1e3,
                      static_cast<double>(reached.at_ns - previous) / 1e3);
        previous = reached.at_ns;
    }
    return out + "\n]}\n";
}

std::string Timeline::svg() const {
    const auto reached = in_time_order(*this);
    const double total = static_cast<double>(std::max<std::uint64_t>(reached.back().at_ns, 1));
    constexpr double left = 180, width = 560, row = 26, top = 82, bar = 16;
    constexpr double room = 80; // beside a bar, for its duration
    const double height = top + row * static_cast<double>(reached.size() - 1) + 10;
    std::string out = format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
        "font-family=\"system-ui, sans-serif\" font-size=\"13\">\n"
        "<rect width=\"100%%\" height=\"100%%\" rx=\"10\" fill=\"#fbfaf7\"/>\n"
        "<text x=\"24\" y=\"32\" font-size=\"18\" font-weight=\"600\" fill=\"#2b2b2b\">a boot with inox</text>\n"
        "<text x=\"24\" y=\"52\" fill=\"#666\">%s from the start of the process to the end of the guest</text>\n",
        left + width + room, height, left + width + room, height, duration(reached.back().at_ns).c_str());
    for (int tick = 0; tick <= 4; ++tick) {
        const double x = left + width * tick / 4;
        out += format("<line x1=\"%.1f\" y1=\"%.0f\" x2=\"%.1f\" y2=\"%.0f\" stroke=\"#e4e0d8\"/>\n"
                      "<text x=\"%.1f\" y=\"%.0f\" font-size=\"10\" fill=\"#666\" text-anchor=\"middle\">%s</text>\n",
                      x, top - 6, x, height - 10, x, top - 10,
                      tick == 0 ? "0" : duration(static_cast<std::uint64_t>(total * tick / 4)).c_str());
    }
    double y = top;
    for (std::size_t i = 1; i < reached.size(); ++i, y += row) {
        const auto& step = reached[i];
        const auto took = step.at_ns - reached[i - 1].at_ns;
        const double x0 = left + width * static_cast<double>(reached[i - 1].at_ns) / total;
        const double x1 = std::max(left + width * static_cast<double>(step.at_ns) / total, x0 + 2);
        const Label& label = labels[step.step];
        out += format("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\" fill=\"#333\">%s</text>\n"
                      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.0f\" rx=\"3\" fill=\"%s\">"
                      "<title>%s: %s, at %s</title></rect>\n"
                      "<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" fill=\"#444\">%s</text>\n",
                      left - 12, y + 13, label.phase, x0, y, x1 - x0, bar, label.colour, label.phase,
                      duration(took).c_str(), duration(step.at_ns).c_str(), x1 + 6, y + 12.5, duration(took).c_str());
    }
    return out + "</svg>\n";
}

Result<void> Timeline::save(const std::string& path) const {
    const bool picture = path.ends_with(".svg");
    if (!picture && !path.ends_with(".json"))
        return fail(Errc::bad_option, "boot timeline '" + path + "' ends neither in .json nor in .svg",
                    "name the file something.svg or something.json");
    const auto fd = TRY(open_output(path, OutputStart::replace));
    auto written = write_all(fd.get(), picture ? svg() : json());
    if (!written)
        return std::unexpected(Error{Errc::output_unwritable,
                                     "cannot write the boot timeline '" + path + "'",
                                     "free space there, or name a file elsewhere",
                                     {},
                                     written.error().sys_errno});
    return {};
}

} // namespace inox
