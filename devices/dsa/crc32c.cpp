// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/crc32c.hpp"

#include <array>
#include <nmmintrin.h>

#include "vmm/base/bytes.hpp"

namespace inox::devices::dsa {
namespace {

constexpr std::uint32_t polynomial = 0x1edc6f41;

constexpr std::uint32_t reversed(std::uint32_t value) {
    std::uint32_t out = 0;
    for (unsigned bit = 0; bit < 32; ++bit)
        out |= (value >> bit & 1U) << (31 - bit);
    return out;
}

constexpr auto make_table(bool reflected) {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t crc = reflected ? byte : byte << 24;
        for (unsigned bit = 0; bit < 8; ++bit) {
            if (reflected)
                crc = (crc & 1) != 0 ? crc >> 1 ^ reversed(polynomial) : crc >> 1;
            else
                crc = crc >> 31 != 0 ? crc << 1 ^ polynomial : crc << 1;
        }
        table[byte] = crc;
    }
    return table;
}
constexpr auto reflected_table = make_table(true);
constexpr auto plain_table = make_table(false);

[[gnu::target("sse4.2")]] std::uint32_t by_instruction(std::uint32_t crc, std::span<const std::byte> bytes) {
    std::uint64_t state = crc;
    while (bytes.size() >= 8) {
        state = _mm_crc32_u64(state, load_le(bytes.first(8)));
        bytes = bytes.subspan(8);
    }
    auto small = static_cast<std::uint32_t>(state);
    for (const std::byte byte : bytes)
        small = _mm_crc32_u8(small, static_cast<unsigned char>(byte));
    return small;
}

std::uint32_t by_table(std::uint32_t crc, std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes)
        crc = crc >> 8 ^ reflected_table[(crc ^ static_cast<std::uint32_t>(byte)) & 0xff];
    return crc;
}

} // namespace

std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> bytes) noexcept {
    static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
    return has_instruction ? by_instruction(crc, bytes) : by_table(crc, bytes);
}

std::uint32_t crc32c_unreflected(std::uint32_t crc, std::span<const std::byte> bytes) noexcept {
    for (const std::byte byte : bytes)
        crc = crc << 8 ^ plain_table[(crc >> 24 ^ static_cast<std::uint32_t>(byte)) & 0xff];
    return crc;
}

std::uint32_t reverse_bits(std::uint32_t value) noexcept { return reversed(value); }

} // namespace inox::devices::dsa
