// SPDX-License-Identifier: Apache-2.0
// The key and the option for what a confined inox may open later.
#include "vmm/config/allowed_path.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_text.hpp"

namespace inox {

Result<AllowedPath> parse_allowed_path(std::string_view text, std::string_view folder) {
    AllowedPath allowed;
    if (text.ends_with(":ro") || text.ends_with(":rw")) {
        allowed.read_only = text.ends_with(":ro");
        text.remove_suffix(3);
    }
    if (text.empty() || text.contains('\0'))
        return fail(Errc::config_value, "the path is empty, or holds a NUL",
                    "name a file, or a folder for all that is beneath it");
    allowed.path = path_below(folder, std::string{text});
    return allowed;
}

void read_allow(const JsonValue& value, ConfigFile& file) {
    if (!value.json().is_array())
        return value.report_type(JsonType::array);
    file.allow.clear();
    for (std::size_t i = 0; i < value.json().size(); ++i) {
        const JsonValue one{value.json()[i], json_pointer(value.pointer(), std::to_string(i)), value.problems()};
        const auto text = one.text();
        if (!text)
            continue;
        if (auto allowed = parse_allowed_path(*text, value.folder()))
            file.allow.push_back(std::move(*allowed));
        else
            one.report(allowed.error().code, allowed.error().what, allowed.error().hint);
    }
}

Result<void> add_allowed(const CommandOption& self, const std::string& text, ConfigFile& file) {
    auto allowed = parse_allowed_path(text);
    if (!allowed)
        return refuse_option(self, allowed.error().what, allowed.error().hint);
    file.allow.push_back(std::move(*allowed));
    return {};
}

} // namespace inox
