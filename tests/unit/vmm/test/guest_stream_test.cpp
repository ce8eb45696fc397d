// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/guest_stream.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/catch.hpp"

namespace inox::guest_stream_test {
namespace {

constexpr off_t kept = 64 * 1024;

struct File {
    std::string path =
        (std::filesystem::temp_directory_path() / ("inox-stream-" + std::to_string(::getpid()))).string();
    std::ofstream out{path, std::ios::binary | std::ios::trunc};
    File() = default;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() { std::filesystem::remove(path); }
    [[nodiscard]] std::string text() const {
        std::ostringstream all;
        all << std::ifstream{path, std::ios::binary}.rdbuf();
        return all.str();
    }
    [[nodiscard]] std::int64_t on_disk() const {
        struct stat status {};
        return ::stat(path.c_str(), &status) == 0 ? status.st_blocks * 512 : -1;
    }
};

} // namespace

TEST_CASE("each line of a guest's output comes once, the last one also unfinished") {
    File file;
    std::vector<std::string> lines;
    test::GuestStream stream{file.path, [&](std::string_view line) { lines.emplace_back(line); }};
    stream.read();
    file.out << "one\r\ntw" << std::flush;
    stream.read();
    file.out << "o\nthree" << std::flush;
    stream.finish();
    CHECK(lines == std::vector<std::string>{"one\n", "two\n", "three"});
    CHECK(stream.left_out().empty());
    CHECK(file.text() == "one\r\ntwo\nthree");
}

TEST_CASE("output without end takes bounded room on disk, and every line of it is read") {
    File file;
    std::uint64_t lines = 0;
    std::string last;
    test::GuestStream stream{file.path,
                             [&](std::string_view line) {
                                 ++lines;
                                 last = line;
                             },
                             kept};
    std::uint64_t written = 0;
    std::int64_t most = 0;
    for (int turn = 0; turn < 100; ++turn) {
        for (int i = 0; i < 1000; ++i)
            file.out << "line " << ++written << " of a guest that prints without end\n";
        file.out.flush();
        stream.read();
        most = std::max(most, file.on_disk());
    }
    REQUIRE(file.on_disk() >= 0);
    if (std::filesystem::file_size(file.path) <= static_cast<std::uintmax_t>(file.on_disk())) {
        WARN("this file system gives back no part of a file");
        return;
    }
    CHECK(most < 10 * kept); // of nearly 70 times that
    stream.finish();
    CHECK(lines == written);
    CHECK(last.starts_with("line 100000 "));

    // What is kept are whole lines, and the numbers of those that are not add up
    std::istringstream text{file.text()};
    CHECK(text.str().size() < 4 * kept);
    std::uint64_t number = 0;
    std::uint64_t gaps = 0;
    for (std::string line; std::getline(text, line);) {
        unsigned long long got{};
        if (std::sscanf(line.c_str(), "[inox test: %llu lines are left out here]", &got) == 1) {
            ++gaps;
            number += got;
            CHECK(stream.left_out().starts_with(std::to_string(got) + " lines in the middle"));
        } else {
            REQUIRE(std::sscanf(line.c_str(), "line %llu of a guest that prints without end", &got) == 1);
            REQUIRE(got == ++number);
        }
    }
    CHECK(gaps == 1);
    CHECK(number == written);
}

} // namespace inox::guest_stream_test
