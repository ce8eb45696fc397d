// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_text.hpp"

#include <set>

#include "tests/catch.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::config_text_test {

TEST_CASE("sizes take a unit, and are MiB without one") {
    CHECK(parse_size("512") == 512 * MiB);
    CHECK(parse_size("512M") == 512 * MiB);
    CHECK(parse_size("4G") == 4 * GiB);
    CHECK(parse_size("4GiB") == 4 * GiB);
    CHECK(parse_size("1100k") == 1100 * KiB);
    CHECK(parse_size("0") == 0);
    for (const auto* text : {"", "M", "-1", "+1", " 1", "1 ", "1.5G", "1X", "0x10", "1MM", "99999999999999999999",
                             "17592186044416M", "18446744073709551615"})
        CHECK_FALSE(parse_size(text));
}

TEST_CASE("times take a unit, and are seconds without one") {
    using std::chrono::milliseconds;
    CHECK(parse_duration("60") == milliseconds{60'000});
    CHECK(parse_duration("60s") == milliseconds{60'000});
    CHECK(parse_duration("500ms") == milliseconds{500});
    CHECK(parse_duration("2m") == milliseconds{120'000});
    CHECK(parse_duration("1h") == milliseconds{3'600'000});
    for (const auto* text : {"", "s", "-1", "0", "0ms", "0h", "1.5s", "1d", "10000h", "99999999999999999999ms"})
        CHECK_FALSE(parse_duration(text));
}

TEST_CASE("sizes are written exactly") {
    CHECK(size_text(0) == "0 bytes");
    CHECK(size_text(1) == "1 bytes");
    CHECK(size_text(1088 * KiB) == "1088 KiB");
    CHECK(size_text(129 * MiB) == "129 MiB");
    CHECK(size_text(6 * GiB) == "6 GiB");
}

TEST_CASE("the nearest name is found, and nonsense has none") {
    static constexpr std::string_view names[] = {"--kernel", "--initrd", "--memory", "--net", "--expect", "--cpus"};
    CHECK(nearest("--kernal", names) == "--kernel");
    CHECK(nearest("--KERNEL", names) == "--kernel");
    CHECK(nearest("--mem", names) == "--memory");
    CHECK(nearest("--cpu", names) == "--cpus");
    CHECK(nearest("--exepct", names) == "--expect");
    CHECK(nearest("--frobnicate", names).empty());
    CHECK(nearest("", names).empty());
    CHECK(nearest(std::string(100'000, 'x'), names).empty());
    CHECK(suggestion("--kernal", names) == "did you mean '--kernel'?");
    CHECK(suggestion("zzzzzzzz", names, "see --help") == "see --help");
    // A short word that shares two letters with another is not taken for it.
    static constexpr std::string_view short_names[] = {"root", "vfio", "id", "uds", "run", "--net"};
    for (const auto* word : {"foo", "bar", "size", "--foo"})
        CHECK(nearest(word, short_names).empty());
    CHECK(nearest("rnu", short_names) == "run");
    CHECK(nearest("rot", short_names) == "root");
    CHECK(nearest("--nat", short_names) == "--net");
    CHECK(nearest("rd", short_names).empty()); // one of two letters
    CHECK(nearest("ID", short_names) == "id");
}

TEST_CASE("no advice turns a wish into its opposite") {
    static constexpr std::string_view names[] = {"--iommu", "readonly", "root", "rw", "--no-api", "Unsafe", "disk"};
    for (const auto* word : {"--noiommu", "--no-iommu", "nodisk", "ro", "safe", "--api", "unreadonly"})
        CHECK(nearest(word, names).empty());
    CHECK(nearest("--no-apy", names) == "--no-api");
    CHECK(nearest("read-only", names) == "readonly");
    CHECK(nearest("unsave", names) == "Unsafe");
    CHECK(nearest("disks", names) == "disk");
}

TEST_CASE("a switch has three words for each of its places") {
    for (const auto* word : {"on", "yes", "true"})
        CHECK(parse_switch(word) == true);
    for (const auto* word : {"off", "no", "false"})
        CHECK(parse_switch(word) == false);
    for (const auto* word : {"", "1", "ON", "of"})
        CHECK_FALSE(parse_switch(word));
}

TEST_CASE("new ids are ids, and differ") {
    std::set<std::string> ids;
    for (int i = 0; i < 100; ++i)
        CHECK(is_id(*ids.insert(new_id()).first));
    CHECK(ids.size() > 95);
}

TEST_CASE("a path starts at its folder unless it is absolute") {
    CHECK(path_below("configs/", "vm") == "configs/vm");
    CHECK(path_below("/a", "../vm") == "/a/../vm");
    CHECK(path_below("/a", "/vm") == "/vm");
    CHECK(path_below("", "vm") == "vm");
    CHECK(path_below("/a", "").empty());
}

TEST_CASE("text for messages is short and harmless") {
    CHECK(printable("a\x1b[2Jb\xff") == "a?[2Jb?");
    CHECK(printable(std::string(100, 'x'), 10) == "xxxxxxxxxx...");
    CHECK(in_quotes("x") == "'x'");
}

} // namespace inox::config_text_test
