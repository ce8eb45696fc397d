// SPDX-License-Identifier: Apache-2.0
// What `inox test` does with the file: the keys.
#include <algorithm>
#include <cctype>

#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

/// Calls `read` for each element; the key may not be an empty list, which would be no machine at all.
template <class Read> void read_each(const JsonValue& value, std::vector<std::string>& out, Read read) {
    if (!value.json().is_array())
        return value.report_type(JsonType::array);
    out.clear();
    if (value.json().empty())
        return value.report(Errc::config_value, "the list is empty", "name one, or leave out the key");
    for (std::size_t i = 0; i < value.json().size(); ++i)
        if (auto text = read(value.member(std::to_string(i), value.json()[i])))
            out.push_back(std::move(*text));
}

/// A release such as 6.12, "debian-6.12" or "host"; the rest are paths.
bool is_kernel_name(std::string_view word) {
    return !word.contains('/') && (word == "host" || word.starts_with("debian-") ||
                                   std::isdigit(static_cast<unsigned char>(word.front())) != 0);
}

void read_kernels(const JsonValue& value, ConfigFile& file) {
    read_each(value, file.test.kernels, [](const JsonValue& one) -> std::optional<std::string> {
        auto word = one.text();
        if (word && (word->empty() || word->contains('\0'))) {
            one.report(Errc::config_value, in_quotes(*word) + " is no kernel",
                       "name a bzImage, a build directory, or a release such as 6.12");
            return std::nullopt;
        }
        return word && !is_kernel_name(*word) ? path_below(one.folder(), *word) : word;
    });
}

void read_cpu_numbers(const JsonValue& value, ConfigFile& file) {
    read_each(value, file.test.cpus, [&](const JsonValue& one) -> std::optional<std::string> {
        const auto cpus = one.number({1, layout::max_cpus}, Errc::cpus_invalid);
        return cpus ? std::optional{std::to_string(*cpus)} : std::nullopt;
    });
}

void read_memory_sizes(const JsonValue& value, ConfigFile& file) {
    read_each(value, file.test.memory, [&](const JsonValue& one) -> std::optional<std::string> {
        if (!one.json().is_string() && !one.json().is_number()) {
            one.report_type(JsonType::text, "a size such as \"512M\", or a number of MiB");
            return std::nullopt;
        }
        auto text = one.json().is_string() ? one.text().value_or("") : one.json().dump();
        const auto bytes = parse_size(text);
        if (!bytes) {
            one.report(Errc::memory_invalid, in_quotes(text) + " is not a size",
                       "write a whole number, such as \"512M\" or \"4G\"; a plain number is MiB");
            return std::nullopt;
        }
        if (const auto problem = check_memory(*bytes, HugePages::none)) {
            one.report(problem->code, problem->what, problem->hint);
            return std::nullopt;
        }
        return text;
    });
}

template <std::string TestConfig::*path> void read_file(const JsonValue& value, ConfigFile& file) {
    read_path(value, file.test.*path);
}
template <bool TestConfig::*on> void read_switch(const JsonValue& value, ConfigFile& file) {
    file.test.*on = value.boolean().value_or(false);
}

constexpr Field fields[] = {
    {"kernels", Need::optional, Null::refused, read_kernels},
    {"cpus", Need::optional, Null::refused, read_cpu_numbers},
    {"memory", Need::optional, Null::refused, read_memory_sizes},
    {"append", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_plain_text(value, file.test.append); }},
    {"kunit", Need::optional, Null::refused, read_switch<&TestConfig::kunit>},
    {"jobs", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { file.test.jobs = read_count(value, TestConfig::most_jobs, 1); }},
    {"junit", Need::optional, Null::refused, read_file<&TestConfig::junit>},
    {"tap", Need::optional, Null::refused, read_switch<&TestConfig::tap>},
    {"artifacts", Need::optional, Null::refused, read_file<&TestConfig::artifacts>},
    {"show_console", Need::optional, Null::refused, read_switch<&TestConfig::show_console>},
    {"slurm", Need::optional, Null::refused, read_switch<&TestConfig::slurm>},
    {"slurm_options", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_texts(value, file.test.slurm_options); }},
};

} // namespace

std::span<const Field> test_fields() { return fields; }

} // namespace inox
