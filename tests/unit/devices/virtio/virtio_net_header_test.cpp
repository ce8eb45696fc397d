// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/header.hpp"

#include "devices/virtio/net/mac_address.hpp"
#include "tests/catch.hpp"

namespace inox::virtio_net_header_test {

using namespace devices::virtio;

namespace {

constexpr std::uint64_t all = net_feature::checksum | net_feature::host_tso4 | net_feature::host_tso6 |
                              net_feature::host_ecn | net_feature::host_ufo | net_feature::offloads;

NetHeader segments(std::uint8_t kind, std::uint16_t size = 1448) {
    return {.flags = 1,
            .segmentation = kind,
            .header_length = 54,
            .segment_size = size,
            .checksum_start = 34,
            .checksum_offset = 16};
}

std::string refusal(NetHeader header, std::uint64_t frame, std::uint64_t negotiated = all) {
    const char* reason = accept_sent(header, frame, negotiated);
    return reason ? reason : "";
}

} // namespace

TEST_CASE("a frame's length must be that of a frame") {
    CHECK(refusal({}, 14).empty());
    CHECK(refusal({}, 13) == "a frame is shorter than an Ethernet header");
    CHECK(refusal({}, 0) == "a frame is shorter than an Ethernet header");
    CHECK(refusal({}, max_frame).empty());
    CHECK(refusal({}, max_frame + 1) == "a frame is longer than 64 KiB");
    CHECK(refusal({}, ~std::uint64_t{0}) == "a frame is longer than 64 KiB");
}

TEST_CASE("a checksum must be negotiated and lie inside the frame") {
    const NetHeader header{.flags = 1, .checksum_start = 34, .checksum_offset = 16};
    CHECK(refusal(header, 60).empty());
    CHECK(refusal(header, 52).empty());
    CHECK(refusal(header, 51) == "a frame's checksum lies beyond its end");
    CHECK(refusal({.flags = 1, .checksum_start = 65535, .checksum_offset = 65535}, 100) ==
          "a frame's checksum lies beyond its end");
    CHECK(refusal(header, 60, 0) == "a frame asks for a checksum that was not negotiated");
}

TEST_CASE("segmentation must be negotiated, known and possible") {
    for (const int kind : {1, 4, 3, 0x81, 0x84})
        CHECK(refusal(segments(static_cast<std::uint8_t>(kind)), 30'000).empty());
    for (const int kind : {2, 5, 7, 0x80, 0xff})
        CHECK(refusal(segments(static_cast<std::uint8_t>(kind)), 30'000) ==
              "a frame asks for segmentation that was not negotiated");
    CHECK(refusal(segments(4), 30'000, all & ~net_feature::host_tso6) ==
          "a frame asks for segmentation that was not negotiated");
    CHECK(refusal(segments(0x81), 30'000, all & ~net_feature::host_ecn) ==
          "a frame asks for segmentation that was not negotiated");
    CHECK(refusal(segments(1, 0), 30'000) == "a frame's segment size or header length is impossible");
    CHECK(refusal(segments(1), 53) == "a frame's segment size or header length is impossible");
    auto header = segments(1);
    header.flags = 0;
    CHECK(refusal(header, 30'000) == "a frame asks for segmentation without a checksum");
}

TEST_CASE("what the driver may not say is cleared before the host sees it") {
    NetHeader header{.flags = 0xfe,
                     .segmentation = 0,
                     .header_length = 9,
                     .segment_size = 9,
                     .checksum_start = 9,
                     .checksum_offset = 9,
                     .buffers = 9};
    CHECK(accept_sent(header, 100, all) == nullptr);
    CHECK(header.flags == 0);
    CHECK(header.header_length + header.segment_size + header.checksum_start + header.checksum_offset == 0);
    CHECK(header.buffers == 0);
}

TEST_CASE("the driver gets only frames it agreed to") {
    NetHeader plain{.flags = 2};
    CHECK(accept_received(plain, 0));
    CHECK(plain.flags == 0);
    NetHeader valid{.flags = 2};
    CHECK(accept_received(valid, net_feature::guest_checksum));
    CHECK(valid.flags == 2);
    NetHeader partial{.flags = 1};
    CHECK_FALSE(accept_received(partial, 0));
    CHECK(accept_received(partial, net_feature::guest_checksum));
    auto large = segments(4);
    CHECK_FALSE(accept_received(large, net_feature::guest_checksum | net_feature::guest_tso4));
    CHECK(accept_received(large, net_feature::guest_checksum | net_feature::guest_tso6));
}

TEST_CASE("a MAC address is six pairs of hex digits and names one station") {
    CHECK(MacAddress::parse("02:fc:00:AB:cd:01")->text() == "02:fc:00:ab:cd:01");
    for (const char* bad : {"", "02:fc:00:ab:cd", "02:fc:00:ab:cd:011", "02-fc-00-ab-cd-01", "02:fc:00:ab:cd:0g",
                            "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "2:fc:00:ab:cd:001",
                            "0x:fc:00:ab:cd:01", "-2:fc:00:ab:cd:01", "+2:fc:00:ab:cd:01"}) {
        INFO(bad);
        REQUIRE_FALSE(MacAddress::parse(bad));
        CHECK(MacAddress::parse(bad).error().code == Errc::config_value);
    }
}

TEST_CASE("a derived MAC address is stable, local, of one station and differs by seed") {
    const auto mac = MacAddress::derived("vm1/net0");
    CHECK(mac == MacAddress::derived("vm1/net0"));
    CHECK_FALSE(mac == MacAddress::derived("vm1/net1"));
    CHECK_FALSE(mac == MacAddress::derived("vm2/net0"));
    CHECK((mac.bytes[0] & 3) == 2);
    CHECK(MacAddress::parse(mac.text()));
}

} // namespace inox::virtio_net_header_test
