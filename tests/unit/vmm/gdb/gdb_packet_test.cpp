// SPDX-License-Identifier: Apache-2.0
#include "vmm/gdb/packet.hpp"

#include "tests/catch.hpp"

namespace inox::gdb_packet_test {

using namespace gdb;

namespace {

std::vector<PacketReader::Event> read_all(PacketReader& reader, std::string_view text) {
    auto bytes = std::as_bytes(std::span{text});
    std::vector<PacketReader::Event> events;
    while (auto event = reader.next(bytes))
        events.push_back(std::move(*event));
    return events;
}

} // namespace

TEST_CASE("a packet that was framed is read back, whatever is in it and wherever it is cut") {
    std::string text;
    for (int c = 0; c < 256; ++c)
        text += static_cast<char>(c);
    const auto framed = frame(text);
    for (std::size_t cut = 0; cut <= framed.size(); ++cut) {
        PacketReader reader;
        auto events = read_all(reader, std::string_view{framed}.substr(0, cut));
        const auto rest = read_all(reader, std::string_view{framed}.substr(cut));
        events.insert(events.end(), rest.begin(), rest.end());
        REQUIRE(events.size() == 1);
        CHECK(events[0].kind == PacketReader::Kind::packet);
        CHECK(events[0].text == text);
    }
}

TEST_CASE("known frames have the checksum that the manual gives") {
    CHECK(frame("") == "$#00");
    CHECK(frame("OK") == "$OK#9a");
    CHECK(frame("a}b") == std::string{"$a}\x5d"} + "b#9d");
}

TEST_CASE("a wrong checksum and a packet that is too long are bad, and what follows is read") {
    PacketReader reader;
    auto events = read_all(reader, "$g#66$g#67$g#6x");
    REQUIRE(events.size() == 3);
    CHECK(events[0].kind == PacketReader::Kind::bad);
    CHECK(events[1].kind == PacketReader::Kind::packet);
    CHECK(events[2].kind == PacketReader::Kind::bad);
    events = read_all(reader, frame(std::string(longest_packet + 1, 'x')) + frame("g"));
    REQUIRE(events.size() == 2);
    CHECK(events[0].kind == PacketReader::Kind::bad);
    CHECK(events[1].text == "g");
}

TEST_CASE("between packets the byte 3 interrupts, - asks again, and + and noise say nothing") {
    PacketReader reader;
    const auto events = read_all(reader, "+x\3-+");
    REQUIRE(events.size() == 2);
    CHECK(events[0].kind == PacketReader::Kind::interrupt);
    CHECK(events[1].kind == PacketReader::Kind::again);
}

TEST_CASE("hexadecimal text") {
    CHECK(to_hex("\x01\xfeZ") == "01fe5a");
    CHECK(from_hex("01Fe") == std::vector{std::byte{1}, std::byte{0xfe}});
    CHECK_FALSE(from_hex("0"));
    CHECK_FALSE(from_hex("0g"));
    CHECK(hex_number("ffffffffffffffff") == UINT64_MAX);
    CHECK_FALSE(hex_number("10000000000000000"));
    CHECK_FALSE(hex_number(""));
    CHECK_FALSE(hex_number("12 "));
}

} // namespace inox::gdb_packet_test
