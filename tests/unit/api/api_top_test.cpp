// SPDX-License-Identifier: Apache-2.0
// What `inox ctl top` shows.
#include "api/json_top.hpp"

#include <algorithm>

#include "tests/catch.hpp"

namespace inox::api_top_test {

using namespace inox::api;
using namespace std::chrono_literals;

namespace {

constexpr std::chrono::steady_clock::time_point start{};

std::string status(std::uint64_t exits, const std::string& id = "vm") {
    return R"({"id": ")" + id + R"(", "state": "Running", "vcpus": 2, "memory_bytes": 536870912, "pid": 7, "exits": )" +
           std::to_string(exits) + "}";
}

std::string exits(std::uint64_t serial, std::uint64_t halt) {
    return R"({"total": 0, "more": 0, "exits": [
        {"reason": "port", "access": "write", "address": "0x3f8", "place": "serial port", "count": )" +
           std::to_string(serial) +
           R"(}, {"reason": "halt", "access": null, "address": null, "place": null, "count": )" + std::to_string(halt) +
           "}]}";
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("a frame has what happened between two samples, by exits, devices and faults") {
    const auto before =
        *top_sample(status(100), exits(10, 5),
                    "# TYPE inox_block_read_bytes_total counter\ninox_block_read_bytes_total{id=\"root\"} 1000\n"
                    "inox_net_tx_fails_total{id=\"eth0\"} 3\ninox_bus_unclaimed_accesses_total 0\n",
                    start);
    auto now = *top_sample(status(500), exits(370, 45),
                           "inox_block_read_bytes_total{id=\"root\"} 3001000\ninox_block_read_count_total{id=\"root\"} "
                           "0\ninox_net_tx_fails_total{id=\"eth0\"} 3\ninox_bus_unclaimed_accesses_total 8\n"
                           "inox_net_link_up{id=\"eth0\"} 1\ninox_vcpu_exits_total 500\n",
                           start + 2s);
    now.resident = 100 << 20;
    const auto text = top_frame(before, now);
    CHECK(text.starts_with("inox vm  Running  2 CPUs  512.0 MiB, 100.0 MiB resident with inox\n200 exits/s\n"));
    CHECK(contains(text, "       180  90.0 %  port         write 0x3f8        serial port\n"));
    CHECK(contains(text, "        20  10.0 %  halt"));
    CHECK(text.find("serial port") < text.find("halt"));
    CHECK(contains(text, "      1.5M        3001000  block root         read_bytes\n"));
    CHECK_FALSE(contains(text, "read_count")); // it did not move
    CHECK_FALSE(contains(text, "link_up"));
    CHECK(
        contains(text, "       0.0              3  net eth0           tx_fails\n")); // it is not over because it rests
    CHECK(contains(text, "       4.0              8  bus                unclaimed_accesses\n"));
    CHECK(text.find("FAULTS OF") < text.find("unclaimed"));
}

TEST_CASE("a counter that began again counts as nothing, and equal times do not divide by zero") {
    const auto before = *top_sample(status(1000), exits(1000, 0), "inox_net_rx_bytes_total 5000\n", start);
    const auto now = *top_sample(status(10), exits(10, 0), "inox_net_rx_bytes_total 50\n", start);
    const auto text = top_frame(before, now);
    CHECK(contains(text, "0.0 exits/s"));
    CHECK_FALSE(contains(text, "serial"));
}

TEST_CASE("nothing that the API says reaches the terminal as a control character") {
    const auto sample = top_sample(
        status(1, R"(\u001b[31mred\u0007\r\u009b)"),
        R"({"exits": [{"reason": "\u001b]0;x\u0007", "access": "a\nb", "address": "\t", "place": "p", "count": 9}]})",
        "inox_block_\x1b[2J_total{id=\"\x1b[H\"} 7\n", start);
    REQUIRE(sample);
    auto before = *sample;
    before.places.clear();
    before.counters.clear();
    auto now = *sample;
    now.at += 1s;
    const auto text = top_frame(before, now);
    CHECK(std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\n'; }));
    CHECK_FALSE(contains(text, "\xc2\x9b"));
    CHECK(contains(text, "?[31mred"));
}

TEST_CASE("a frame fits its terminal") {
    const auto before = *top_sample(status(0), exits(0, 0), "", start);
    const auto now = *top_sample(status(500), exits(370, 45), "inox_net_rx_bytes_total 50\n", start + 1s);
    const auto text = top_frame(before, now, {4, 20});
    CHECK(std::ranges::count(text, '\n') == 4);
    for (std::size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
        CHECK(end - at <= 20);
}

TEST_CASE("an answer of something else is an error") {
    CHECK_FALSE(top_sample("no", "{}", "", start));
    CHECK_FALSE(top_sample("{}", "[]", "", start));
    CHECK_FALSE(top_sample("{}", R"({"exits": 1})", "", start));
    CHECK(top_sample("{}", R"({"exits": [1, {}]})", "x\n{}\ninox_\ninox__total\ninox_a_total{\" 1\n", start));
}

} // namespace inox::api_top_test
