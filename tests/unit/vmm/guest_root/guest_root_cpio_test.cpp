// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/cpio.hpp"

#include <fstream>
#include <sys/stat.h>

#include "tests/catch.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/process.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::guest_root_cpio_test {

using namespace guest_root;

namespace {

/// What the host's cpio makes of the archive.
std::string list(std::span<const std::byte> archive, const char* options) {
    fakes::TemporaryFolder folder;
    const std::string path = folder.path + std::string{"/a.cpio"};
    std::ofstream{path, std::ios::binary}.write(reinterpret_cast<const char*>(archive.data()), // NOLINT: bytes
                                                static_cast<std::streamsize>(archive.size()));
    const auto ran = tests::run_process({"/usr/bin/env", "busybox", "cpio", options, "-F", path});
    CHECK(ran.code == 0); // its words are a count of blocks
    return ran.out;
}

/// How often the text is in it.
std::size_t count_of(std::span<const std::byte> archive, std::string_view text) {
    const std::string_view all{reinterpret_cast<const char*>(archive.data()), archive.size()}; // NOLINT: bytes
    std::size_t count = 0;
    for (auto at = all.find(text); at != all.npos; at = all.find(text, at + 1))
        ++count;
    return count;
}

constexpr CpioWriter::Node file{.mode = S_IFREG | 0640U, .uid = 7, .gid = 8, .mtime = 1};

} // namespace

TEST_CASE("an archive has files, links and device files with their owners, and the folders above them") {
    CpioWriter out{MiB};
    REQUIRE(out.add("a/b/file", file, "12345"));
    REQUIRE(out.add("a/link", {.mode = S_IFLNK | 0777U}, "b/file"));
    REQUIRE(out.add("a", {.mode = S_IFDIR | 0700U, .uid = 3}));
    REQUIRE(out.add("dev/null", {.mode = S_IFCHR | 0666U, .major = 1, .minor = 3}));
    REQUIRE(out.link("a/second", "/a/./b//file"));
    const auto archive = out.finish();
    CHECK(archive.size() % 4 == 0);
    CHECK(list(archive, "-t") == "a\na/b\na/b/file\na/link\na\ndev\ndev/null\n"); // busybox lists no second names
    CHECK(count_of(archive, std::string_view{"a/second\0", 9}) == 1);
    const auto told = list(archive, "-tv");
    CHECK(told.find("-rw-r----- 7/8         5 1970-01-01 00:00:01 a/b/file\n") != std::string::npos);
    CHECK(told.find(" a/link -> b/file\n") != std::string::npos);
    CHECK(told.find("crw-rw-rw- 0/0         0 ") != std::string::npos);
    // Both names are one file: Linux looks for the other one where there is more than one
    CHECK(count_of(archive, "0000000200000001") == 2);
}

TEST_CASE("bytes come in pieces, and what a file lacks at its end is zero") {
    CpioWriter out{MiB};
    REQUIRE(out.begin("f", file, 6));
    out.append(std::as_bytes(std::span{"ab", 2}));
    out.append(std::as_bytes(std::span{"cdefgh", 6})); // four of them
    REQUIRE(out.begin("g", file, 3));
    REQUIRE(out.add("h", file, "x"));
    CHECK(list(out.finish(), "-t") == "f\ng\nh\n");
}

TEST_CASE("a path does not lead out of the archive, and is no longer than Linux takes") {
    CHECK(inner_path("/./a//b/").value_or("?") == "a/b");
    CHECK(inner_path("./")->empty());
    CHECK(inner_path("a..b/...").value_or("?") == "a..b/...");
    CHECK(inner_path("a/../b").error().code == Errc::root_invalid);
    CHECK(inner_path("..").error().code == Errc::root_invalid);
    CHECK(inner_path(std::string(4001, 'a')).error().code == Errc::root_invalid);
    CpioWriter out{MiB};
    CHECK(out.add("../x", file).error().code == Errc::root_invalid);
    CHECK(out.link("x", "none").error().code == Errc::root_invalid);
}

TEST_CASE("an archive is as large as it may be, and no larger") {
    CpioWriter out{4 * KiB};
    CHECK(out.add("a", file, std::string(3 * KiB, 'x')));
    CHECK(out.add("b", file, std::string(KiB, 'x')).error().code == Errc::initrd_does_not_fit);
    CHECK(CpioWriter{UINT64_MAX}.begin("c", file, 4 * GiB).error().code == Errc::root_invalid);
    CHECK_FALSE(out.finish().empty());
}

} // namespace inox::guest_root_cpio_test
