// SPDX-License-Identifier: Apache-2.0
// The source of random numbers: the keys, the option.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"

namespace inox {
namespace {

using devices::virtio::EntropyOptions;

constexpr Field fields[] = {
    {"rate_limiter", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_limits(value, being_read<EntropyOptions>(file).limits); }},
};

Result<void> add(const CommandOption& /*self*/, const std::string& /*text*/, ConfigFile& file) {
    put_device(file.config, EntropyOptions{});
    return {};
}

} // namespace

std::span<const Section> Kind<EntropyOptions>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .begin = begin_device<EntropyOptions>}};
    return all;
}

CommandOption Kind<EntropyOptions>::option() {
    return {"--entropy", nullptr, "a source of random numbers", "/entropy", add};
}

void Kind<EntropyOptions>::state(State& state, EntropyOptions& entropy) {
    state.text("id", entropy.id, most_text);
    limits_state(state, "limits", entropy.limits);
}

} // namespace inox
