// SPDX-License-Identifier: Apache-2.0
#include "vmm/gdb/packet.hpp"

#include <charconv>
#include <utility>

#include "vmm/base/error.hpp"

namespace inox::gdb {
namespace {

constexpr char escape = '}';

std::optional<std::uint8_t> digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return std::nullopt;
}

} // namespace

std::string frame(std::string_view text) {
    std::string out = "$";
    std::uint8_t sum = 0;
    const auto put = [&](char c) {
        out += c;
        sum = static_cast<std::uint8_t>(sum + static_cast<std::uint8_t>(c));
    };
    for (const char c : text) {
        const bool special = c == '#' || c == '$' || c == escape || c == '*';
        if (special)
            put(escape);
        put(special ? static_cast<char>(c ^ 0x20) : c);
    }
    return out + format("#%02x", sum);
}

std::string to_hex(std::span<const std::byte> bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const auto byte : bytes) {
        out += digits[std::to_integer<unsigned>(byte) >> 4];
        out += digits[std::to_integer<unsigned>(byte) & 15];
    }
    return out;
}

std::string to_hex(std::string_view text) { return to_hex(std::as_bytes(std::span{text})); }

std::optional<std::vector<std::byte>> from_hex(std::string_view text) {
    if (text.size() % 2 != 0)
        return std::nullopt;
    std::vector<std::byte> out;
    out.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const auto high = digit(text[i]);
        const auto low = digit(text[i + 1]);
        if (!high || !low)
            return std::nullopt;
        out.push_back(static_cast<std::byte>(*high << 4 | *low));
    }
    return out;
}

std::optional<std::uint64_t> hex_number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

std::optional<PacketReader::Event> PacketReader::next(std::span<const std::byte>& bytes) {
    while (!bytes.empty()) {
        const char c = static_cast<char>(bytes.front());
        bytes = bytes.subspan(1);
        if (auto event = take(c))
            return event;
    }
    return std::nullopt;
}

void PacketReader::append(char c) {
    too_long_ |= text_.size() == longest_packet;
    if (!too_long_)
        text_ += c;
}

std::optional<PacketReader::Event> PacketReader::take(char c) {
    switch (state_) {
    case State::between:
        if (c == '$') {
            state_ = State::text;
            text_.clear();
            too_long_ = false;
            sum_ = 0;
            sum_readable_ = true;
        }
        if (c == '\3')
            return Event{Kind::interrupt};
        if (c == '-')
            return Event{Kind::again};
        return std::nullopt;
    case State::text:
    case State::escaped:
        if (c == '#') {
            state_ = State::sum_high;
            return std::nullopt;
        }
        sum_ = static_cast<std::uint8_t>(sum_ + static_cast<std::uint8_t>(c));
        if (state_ == State::text && c == escape) {
            state_ = State::escaped;
            return std::nullopt;
        }
        append(state_ == State::escaped ? static_cast<char>(c ^ 0x20) : c);
        state_ = State::text;
        return std::nullopt;
    case State::sum_high:
    case State::sum_low: {
        const auto value = digit(c);
        sum_readable_ &= value.has_value();
        claimed_ = static_cast<std::uint8_t>(claimed_ << 4 | value.value_or(0));
        if (std::exchange(state_, State::sum_low) == State::sum_high)
            return std::nullopt;
        state_ = State::between;
        if (!sum_readable_ || claimed_ != sum_ || too_long_)
            return Event{Kind::bad};
        return Event{Kind::packet, std::exchange(text_, {})};
    }
    }
    std::unreachable();
}

} // namespace inox::gdb
