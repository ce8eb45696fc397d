// SPDX-License-Identifier: Apache-2.0
// A guest's output in files and pipes: writing never waits, and every loss is reported.
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/support/files.hpp"
#include "tests/support/log_capture.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/instance/metrics.hpp"
#include "vmm/instance/output_file.hpp"

namespace inox::machine_output_file_test {

namespace {

std::string scratch(const char* name) { return "/tmp/inox-output-" + std::to_string(::getpid()) + "-" + name; }

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span{text}); }

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1))
        ++found;
    return found;
}

} // namespace

TEST_CASE("a pipe without a reader opens, takes what fits and counts the rest; that is no failure") {
    const auto path = scratch("pipe");
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    auto file = OutputFile::open(path, "serial log");
    REQUIRE(file);
    const std::string text(1'000'000, 'x');
    const auto fits = file->offer(bytes_of(text));
    CHECK(fits > 0);
    CHECK(fits < text.size());
    CHECK(file->missed() == 0);
    file->write(bytes_of(text));
    CHECK(file->missed() == text.size());
    CHECK(file->result());
    CHECK(Timeline{}.save(path + "/x.svg").error().code == Errc::output_unwritable);
    ::unlink(path.c_str());
}

TEST_CASE("a boot timeline may go to a pipe") {
    const auto path = scratch("pipe.json");
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    CHECK(Timeline{}.save(path));
    ::unlink(path.c_str());
}

TEST_CASE("a full disk is told once, with the file's name, and the loss is counted") {
    const tests::LogCapture log;
    auto file = OutputFile::open("/dev/full", "serial log");
    REQUIRE(file);
    file->write(bytes_of("hello"));
    file->write(bytes_of("again"));
    CHECK(file->missed() == 10);
    CHECK(count(log.text(), "serial log '/dev/full' cannot be written: No space left on device") == 1);
    REQUIRE_FALSE(file->result());
    CHECK(file->result().error().code == Errc::output_unwritable);
    CHECK(file->result().error().message().find("'/dev/full'") != std::string::npos);
    auto metrics = MetricsFile::open("/dev/full");
    REQUIRE(metrics);
    metrics->write("1\n");
    metrics->write("2\n");
    CHECK(metrics->dropped() == 2);
    CHECK(count(log.text(), "metrics file '/dev/full' cannot be written: No space left on device") == 1);
}

TEST_CASE("a file is replaced or continued, as asked for") {
    const auto path = scratch("file");
    OutputFile::open(path, "log")->write(bytes_of("one"));
    OutputFile::open(path, "log")->write(bytes_of("two"));
    CHECK(tests::slurp(path) == "onetwo");
    auto anew = OutputFile::open(path, "log");
    anew->clear();
    anew->write(bytes_of("three"));
    CHECK(tests::slurp(path) == "three");
    ::unlink(path.c_str());
}

} // namespace inox::machine_output_file_test
