// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/result.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/support/files.hpp"

namespace inox::verdict_result_test {

namespace {

struct Folder {
    std::filesystem::path path{"/tmp/inox-result-" + std::to_string(::getpid())};
    Folder() { std::filesystem::create_directory(path); }
    ~Folder() { std::filesystem::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
};

} // namespace

TEST_CASE("a result replaces its file, and touches no other one") {
    const Folder folder;
    const auto file = (folder.path / "r.json").string();
    std::ofstream{file} << "old";
    std::ofstream{file + ".new"} << "a disk";
    REQUIRE(write_result(file, {.how = "the guest powered off"}));
    CHECK(tests::slurp(file).starts_with(R"({"inox_version":)"));
    CHECK(tests::slurp(file + ".new") == "a disk");
    CHECK(std::distance(std::filesystem::directory_iterator{folder.path}, {}) == 2);
    CHECK(write_result((folder.path / "none" / "r.json").string(), {}).error().code == Errc::output_unwritable);
}

TEST_CASE("a result says what a guest wrote in valid JSON, whatever that is") {
    RunResult result{.how = "the guest exited", .exit_code = 7, .guest_code = 7};
    result.findings = {{.line = 3, .kind = "oops", .text = "\xff\xfe \"quoted\""}};
    result.finding_count = 1;
    const auto text = result_json(result);
    CHECK(text.find(R"("line":3,"kind":"oops")") != std::string::npos);
    CHECK(text.find(R"(\"quoted\")") != std::string::npos);
    CHECK(text.find('\xff') == std::string::npos);
    CHECK(std::ranges::count(text, '\n') == 1);
}

} // namespace inox::verdict_result_test
