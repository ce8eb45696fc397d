// SPDX-License-Identifier: Apache-2.0
// The balloon: the keys, the option, the rules.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

using devices::virtio::BalloonOptions;

BalloonOptions& balloon(ConfigFile& file) { return being_read<BalloonOptions>(file); }

constexpr Field fields[] = {
    {"amount_mib", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         constexpr auto most = layout::max_ram / MiB - 1;
         balloon(file).target = value.number({0, UINT32_MAX}, Errc::config_value, {0, most}).value_or(0) * MiB;
     },
     "size"},
    {"deflate_on_oom", Need::required_by_firecracker, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { balloon(file).deflate_on_oom = value.boolean().value_or(false); }},
    {"stats_polling_interval_s", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         balloon(file).statistics_interval =
             std::chrono::seconds{value.number({0, UINT16_MAX}, Errc::config_value).value_or(0)};
     }},
    {"free_page_reporting", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         balloon(file).free_page_reporting = value.boolean().value_or(false);
     }},
    {"free_page_hinting", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         balloon(file).free_page_hinting = value.boolean().value_or(false);
     }},
};

} // namespace

std::span<const Section> Kind<BalloonOptions>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .begin = begin_device<BalloonOptions>}};
    return all;
}

CommandOption Kind<BalloonOptions>::option() {
    return {"--balloon", "size=MIB", "takes this much of the guest's memory back; more keys in docs/config.md",
            "/balloon", add_element};
}

void Kind<BalloonOptions>::check(const Config& config, std::vector<Error>& problems) {
    const auto* balloon = device_of<BalloonOptions>(config);
    if (balloon != nullptr && balloon->target >= config.machine.memory)
        problems.push_back(error_at("/balloon/amount_mib", Errc::config_value,
                                    "a balloon of " + size_text(balloon->target) + " leaves nothing of " +
                                        size_text(config.machine.memory) + " of memory",
                                    "give the guest more memory, or make the balloon smaller"));
}

void Kind<BalloonOptions>::state(State& state, BalloonOptions& balloon) {
    state.text("id", balloon.id, most_text);
    state.number("target", balloon.target, std::uint64_t{0}, layout::max_ram);
    state.flag("deflate_on_oom", balloon.deflate_on_oom);
    state.flag("free_page_reporting", balloon.free_page_reporting);
    state.flag("free_page_hinting", balloon.free_page_hinting);
    auto seconds = static_cast<std::uint64_t>(balloon.statistics_interval.count());
    state.number("statistics_interval", seconds, std::uint64_t{0}, std::uint64_t{UINT16_MAX});
    balloon.statistics_interval = std::chrono::seconds{seconds};
}

} // namespace inox
