// SPDX-License-Identifier: Apache-2.0
// The frames of GDB's remote serial protocol ("Overview" and "Packet Acknowledgment" of its manual).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace inox::gdb {

/// The longest packet that is taken, without its frame; what qSupported announces.
inline constexpr std::size_t longest_packet = 0x4000;

/// "$TEXT#checksum", with what has a meaning of its own escaped.
std::string frame(std::string_view text);

std::string to_hex(std::span<const std::byte> bytes);
std::string to_hex(std::string_view text);
/// nullopt unless it is pairs of hexadecimal digits.
std::optional<std::vector<std::byte>> from_hex(std::string_view text);
/// The whole text as one hexadecimal number of at most 64 bits.
std::optional<std::uint64_t> hex_number(std::string_view text);

/// Cuts what a client sends into packets.
class PacketReader {
public:
    enum class Kind : std::uint8_t {
        packet,
        interrupt, ///< the byte 3 between packets: stop the guest
        bad,       ///< a packet whose checksum is wrong, or that is too long
        again,     ///< the client wants the last packet again
    };
    struct Event {
        Kind kind;
        std::string text{}; ///< Kind::packet, unescaped
    };
    /// Takes some bytes off the front of `bytes`; nullopt: all are taken and nothing is complete.
    std::optional<Event> next(std::span<const std::byte>& bytes);

private:
    enum class State : std::uint8_t { between, text, escaped, sum_high, sum_low };
    std::optional<Event> take(char c);
    void append(char c);

    State state_{State::between};
    std::string text_{};
    bool too_long_{false};
    std::uint8_t sum_{0};
    std::uint8_t claimed_{0};
    bool sum_readable_{true};
};

} // namespace inox::gdb
