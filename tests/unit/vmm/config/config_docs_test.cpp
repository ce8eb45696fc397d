// SPDX-License-Identifier: Apache-2.0
// Documentation, schema, examples and code agree.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/catch.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/confine/confine.hpp"

namespace inox::config_docs_test {

namespace {

std::string slurp(const std::filesystem::path& path) {
    std::ifstream file{path};
    REQUIRE(file.good());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}
const std::filesystem::path source{INOX_SOURCE_DIR};

std::set<std::string> available_keys() {
    std::set<std::string> keys;
    for (const auto& key : config_keys())
        if (key.available)
            keys.insert(key.pointer);
    return keys;
}

/// The `code` columns of a table's rows, as "100 kernel_missing".
std::set<std::string> documented_codes(const std::string& text) {
    std::set<std::string> rows;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
        int code{};
        char name[64]{};
        if (std::sscanf(line.c_str(), "| %d | `%63[a-z_]` |", &code, name) == 2)
            rows.insert(std::to_string(code) + " " + name);
    }
    return rows;
}

void collect(const nlohmann::json& schema, const std::string& pointer, std::set<std::string>& keys) {
    if (schema.contains("items")) // a list section: its keys are the keys of an element
        return collect(schema.at("items"), pointer, keys);
    if (!schema.contains("properties"))
        return;
    CHECK(schema.at("additionalProperties") == false);
    for (const auto& [name, value] : schema.at("properties").items()) {
        if (name == "$schema")
            continue;
        keys.insert(pointer + "/" + name);
        collect(value, pointer + "/" + name, keys);
    }
}

} // namespace

TEST_CASE("docs/exit-codes.md lists every error with its exit code, and nothing else") {
    std::set<std::string> expected;
    for (std::size_t i = 0; i < errc_count; ++i) {
        const auto code = static_cast<Errc>(i);
        expected.insert(std::to_string(exit_code(code)) + " " + std::string{error_name(code)});
    }
    expected.insert(std::to_string(confine::refusal_code) + " " + std::string{confine::refusal_name});
    CHECK(documented_codes(slurp(source / "docs/exit-codes.md")) == expected);
}

TEST_CASE("configs/schema.json names the keys that the reader knows") {
    const auto schema = nlohmann::json::parse(slurp(source / "configs/schema.json"));
    std::set<std::string> keys;
    collect(schema, "", keys);
    CHECK(keys == available_keys());
}

TEST_CASE("docs/config.md has a row for every key, with its option") {
    const auto text = slurp(source / "docs/config.md");
    for (const auto& pointer : available_keys()) {
        INFO(pointer);
        if (std::ranges::count(pointer, '/') == 2)
            CHECK(text.find("| `" + pointer + "` | ") != text.npos);
    }
    for (const auto& option : run_options()) {
        const std::string value = option.value == nullptr ? "" : std::string{" "} + option.value;
        const auto row = "| `" + std::string{option.twin} + "` | `" + option.name + value + "` | ";
        INFO(row);
        CHECK(text.find(row) != text.npos);
    }
    for (const auto& key : config_keys())
        if (!key.available)
            CHECK(text.find("`" + key.pointer.substr(1) + "`") != text.npos);
    CHECK(text.find("\n" + std::string{default_cmdline} + "\n") != text.npos);
    CHECK(text.find("`" + std::string{firecracker_cmdline} + "`") != text.npos);
}

TEST_CASE("every option has a twin that the reader knows, and no two share one") {
    std::set<std::string_view> twins;
    for (const auto& option : run_options()) {
        INFO(option.name);
        CHECK(available_keys().contains(std::string{option.twin}));
        CHECK(twins.insert(option.twin).second);
    }
}

TEST_CASE("every example is good") {
    std::size_t examples = 0;
    for (const auto& entry : std::filesystem::directory_iterator{source / "configs"}) {
        const auto name = entry.path().filename().string();
        if (name == "schema.json" || entry.path().extension() != ".json")
            continue;
        INFO(name);
        ++examples;
        const auto parsed = load_config(entry.path().string(), Dialect::inox);
        for (const auto& problem : parsed.problems)
            UNSCOPED_INFO(problem.report());
        CHECK(parsed.problems.empty());
    }
    CHECK(examples >= 4);
    CHECK(load_config((source / "configs/firecracker.json").string(), Dialect::firecracker).problems.empty());
}

} // namespace inox::config_docs_test
