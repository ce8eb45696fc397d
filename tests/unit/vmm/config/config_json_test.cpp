// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_json.hpp"

#include <algorithm>

#include "tests/catch.hpp"

namespace inox::config_json_test {

TEST_CASE("a syntax error names line and column") {
    const auto read = read_json("{\n  \"a\": tru }");
    REQUIRE(read.problems.size() == 1);
    CHECK(read.problems[0].code == Errc::config_syntax);
    CHECK(read.problems[0].what.starts_with("not valid JSON: parse error at line 2, column"));
    CHECK(read.root.is_null());
}

TEST_CASE("text that is no JSON is refused without an exception") {
    for (const std::string_view text :
         {"", " ", "{", "{\"a\"}", "[1,]", "{\"a\":1}x", "nul", "\"\\ud800\"", "01", "+1", "{'a':1}", "// c\n{}",
          "1e999", "NaN", "\"\x01\"", "\"\xff\"", "\"\xc0\xaf\""}) {
        INFO(text);
        const auto read = read_json(text);
        CHECK(read.problems.size() == 1);
        CHECK(std::ranges::all_of(read.problems.at(0).what, [](char c) { return c >= 0x20 && c < 0x7f; }));
    }
}

TEST_CASE("duplicate keys are reported with their pointer, at any depth") {
    const auto read = read_json(R"({"a": [{}, {"b": {"c/d": 1, "c/d": 2}}], "a": 3})");
    REQUIRE(read.problems.size() == 2);
    CHECK(read.problems[0].where == "/a/1/b/c~1d");
    CHECK(read.problems[1].where == "/a");
    CHECK(read.root["a"] == 3);
}

TEST_CASE("duplicate keys beyond a hundred are not looked for: each costs a walk, and a pointer as long as the text") {
    std::string again = R"("k": 0)";
    for (int i = 0; i < 3000; ++i)
        again += R"(, "k": 0)";
    const auto read = read_json("{\"" + std::string(20'000, 'x') + "\": {" + again + "}}");
    CHECK(read.problems.size() == 100);
    CHECK(read.root.is_null());
}

TEST_CASE("depth is bounded") {
    const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    CHECK(read_json(nested(json_max_depth)).problems.empty());
    CHECK(read_json(nested(json_max_depth + 1)).problems.size() == 1);
    CHECK(read_json(std::string(json_max_size, '[')).problems.size() == 1);
}

TEST_CASE("size is bounded") {
    CHECK(read_json(std::string(json_max_size - 2, ' ') + "{}").problems.empty());
    CHECK(read_json(std::string(json_max_size - 1, ' ') + "{}").problems.size() == 1);
}

TEST_CASE("the tree is the one that nlohmann builds") {
    const std::string_view text = R"({"a": [1, -2, 3.5, true, null, "x", {}, []], "b": {"c": [[1], [2, [3]]]}})";
    CHECK(read_json(text).root == nlohmann::json::parse(text));
}

TEST_CASE("a pointer is escaped and printable") {
    CHECK(json_pointer("/a", "b") == "/a/b");
    CHECK(json_pointer("", "~/") == "/~0~1");
    CHECK(json_pointer("", "x\n\x1b[31m") == "/x??[31m");
}

} // namespace inox::config_json_test
