// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/state_file.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/catch.hpp"
#include "vmm/snapshot/cbor_shape.hpp"
#include "vmm/snapshot/checksum.hpp"

namespace inox::state_file_test {
namespace {

using nlohmann::json;

json sample() {
    return {{"cpu", {{"regs", json::binary({1, 2, 3, 0xff})}, {"count", 7U}, {"list", {1U, 2U}}}},
            {"vm", {{"clock", UINT64_MAX}, {"on", true}, {"offset", -5}, {"name", "x"}}}};
}

std::span<const std::byte> bytes_of(const std::vector<std::uint8_t>& bytes) { return std::as_bytes(std::span{bytes}); }

Errc fault_of(std::span<const std::byte> bytes) {
    const auto decoded = snapshot::decode(bytes);
    return decoded ? Errc::internal : decoded.error().code;
}

std::uint64_t sum_of(std::string_view text) {
    return snapshot::checksum(std::as_bytes(std::span{text.data(), text.size()}));
}

} // namespace

TEST_CASE("the checksum is XXH64") {
    CHECK(sum_of("") == 0xef46db3751d8e999);
    CHECK(sum_of("a") == 0xd24ec4f1a98c6e5b);
    CHECK(sum_of("abc") == 0x44bc2cf5ad770999);
    // In pieces as at once
    const std::string text(1000, 'q');
    snapshot::Checksum sum;
    for (std::size_t at = 0, size = 1; at < text.size(); at += size, size = size * 3 % 71 + 1)
        sum.add(std::as_bytes(std::span{text}).subspan(at, std::min(size, text.size() - at)));
    CHECK(sum.value() == sum_of(text));
}

TEST_CASE("what is encoded is decoded, and encoded to the same bytes again") {
    const auto bytes = snapshot::encode(sample());
    const auto decoded = snapshot::decode(bytes);
    REQUIRE(decoded);
    CHECK(*decoded == sample());
    CHECK(snapshot::encode(*decoded) == bytes);
}

TEST_CASE("every truncation and every changed byte of a state is a fault that is told") {
    const auto bytes = snapshot::encode(sample());
    for (std::size_t size = 0; size < bytes.size(); ++size)
        CHECK(fault_of(std::span{bytes}.first(size)) == Errc::snapshot_invalid);
    for (std::size_t at = 0; at < bytes.size(); ++at)
        for (const auto flip : {1U, 0x80U, 0xffU}) {
            auto changed = bytes;
            changed[at] ^= std::byte(flip);
            CHECK(fault_of(changed) == Errc::snapshot_invalid);
        }
    auto longer = bytes;
    longer.push_back({});
    CHECK(fault_of(longer) == Errc::snapshot_invalid);
}

TEST_CASE("a state of a newer format, and one whose format was given up, are told apart") {
    const auto of_format = [](std::uint32_t format) {
        auto bytes = snapshot::encode(sample());
        std::memcpy(bytes.data() + 8, &format, sizeof format);
        const auto sum = snapshot::checksum(std::span{bytes}.first(snapshot::header_size - 8));
        std::memcpy(bytes.data() + snapshot::header_size - 8, &sum, sizeof sum);
        const auto decoded = snapshot::decode(bytes);
        return decoded ? std::string{} : decoded.error().what;
    };
    CHECK(of_format(snapshot::format).empty());
    CHECK(of_format(snapshot::format + 1).ends_with("was written by a newer inox"));
    CHECK(of_format(snapshot::format - 1).ends_with("has a format that was given up"));
}

TEST_CASE("CBOR is looked at before it is parsed") {
    constexpr snapshot::CborLimits limits{3, 10};
    const auto plain = [&](std::vector<std::uint8_t> bytes) {
        return snapshot::is_plain_cbor(bytes_of(bytes), limits);
    };
    CHECK(plain({0x00}));
    CHECK(plain({0xa1, 0x61, 'a', 0x80}));
    CHECK(plain({0x43, 1, 2, 3}));
    CHECK(plain({0xf4}));
    CHECK(plain({0x1b, 0, 0, 0, 0, 0, 0, 0, 1}));
    CHECK_FALSE(plain({}));
    CHECK_FALSE(plain({0x00, 0x00}));                   // more than one
    CHECK_FALSE(plain({0xa1, 0x00, 0x00}));             // a key that is no text
    CHECK_FALSE(plain({0x5f, 0xff}));                   // without a length in front
    CHECK_FALSE(plain({0xc0, 0x00}));                   // a tag
    CHECK_FALSE(plain({0xfb, 0, 0, 0, 0, 0, 0, 0, 0})); // a floating-point number
    CHECK_FALSE(plain({0x44, 1, 2, 3}));
    CHECK_FALSE(plain({0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}));
    CHECK_FALSE(plain({0xbb, 0x80, 0, 0, 0, 0, 0, 0, 0, 0}));
    CHECK(plain({0x81, 0x81, 0x81, 0x00}));
    CHECK_FALSE(plain({0x81, 0x81, 0x81, 0x81, 0x00})); // too deep
    CHECK(plain({0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
    CHECK_FALSE(plain({0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})); // too many
    // Deep nesting costs no stack
    std::vector<std::uint8_t> deep(1'000'000, 0x81);
    CHECK_FALSE(snapshot::is_plain_cbor(bytes_of(deep), {deep.size(), deep.size()}));
}

} // namespace inox::state_file_test
