// SPDX-License-Identifier: Apache-2.0
// The virtio console: the keys, the option.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"

namespace inox {
namespace {

constexpr Field fields[] = {
    {"path", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, being_read<ConsoleConfig>(file).path); }},
};

Result<void> add(const CommandOption& self, const std::string& text, ConfigFile& file) {
    if (text.empty())
        return refuse_option(self, "the value is empty", "write terminal, or name a file");
    put_device(file.config, ConsoleConfig{.path = text == "terminal" ? "" : text});
    return {};
}

} // namespace

std::span<const Section> Kind<ConsoleConfig>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .begin = begin_device<ConsoleConfig>}};
    return all;
}

CommandOption Kind<ConsoleConfig>::option() {
    return {"--console", "FILE", "a virtio console (hvc0) whose output goes to FILE; terminal: it uses this terminal",
            "/console", add};
}

void Kind<ConsoleConfig>::state(State& state, ConsoleConfig& console) {
    state.text("id", console.id, most_text);
    state.text("path", console.path, most_text);
}

} // namespace inox
