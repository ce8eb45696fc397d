// SPDX-License-Identifier: Apache-2.0
// Little-endian integers for wire structs, plain-data concept for guest memory, alignment helpers. inox runs on x86-64
// only, so a wire integer is its bytes.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace inox {

static_assert(std::endian::native == std::endian::little);

template <class T> inline constexpr bool is_span = false;
template <class T, std::size_t n> inline constexpr bool is_span<std::span<T, n>> = true;

/// Types that may be copied to and from guest memory: no padding that would leak, no pointers' owners. A span is none:
/// what it points to is meant, never the pointer.
template <class T>
concept GuestPod = std::is_trivially_copyable_v<T> && std::has_unique_object_representations_v<T> && !is_span<T>;

/// An integer at any alignment inside a packed wire structure.
template <std::unsigned_integral T> class Le {
public:
    constexpr Le() = default;
    constexpr Le(T value) : bytes_{std::bit_cast<Bytes>(value)} {}    // NOLINT: implicit like the integer it stands for
    constexpr operator T() const { return std::bit_cast<T>(bytes_); } // NOLINT

private:
    struct Bytes {
        std::byte raw[sizeof(T)];
    };
    Bytes bytes_{};
};
using Le16 = Le<std::uint16_t>;
using Le32 = Le<std::uint32_t>;
using Le64 = Le<std::uint64_t>;
static_assert(sizeof(Le64) == 8 && alignof(Le64) == 1 && GuestPod<Le32>);

/// The first sizeof(T) bytes of a buffer as an integer; missing bytes read as 0.
template <std::unsigned_integral T = std::uint64_t> T load_le(std::span<const std::byte> bytes) {
    T value{};
    std::memcpy(&value, bytes.data(), bytes.size() < sizeof value ? bytes.size() : sizeof value);
    return value;
}
/// Fills the buffer with the low bytes of `value`; bytes beyond its width become 0.
inline void store_le(std::span<std::byte> bytes, std::uint64_t value) {
    for (auto& byte : bytes) {
        byte = static_cast<std::byte>(value & 0xff);
        value >>= 8;
    }
}

/// `alignment` is a power of two.
constexpr bool is_aligned(std::uint64_t value, std::uint64_t alignment) { return (value & (alignment - 1)) == 0; }
constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t alignment) { return value & ~(alignment - 1); }
/// Wraps to 0 above the last multiple.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
    return (value + alignment - 1) & ~(alignment - 1);
}

inline constexpr std::uint64_t KiB = 1024;
inline constexpr std::uint64_t MiB = 1024 * KiB;
inline constexpr std::uint64_t GiB = 1024 * MiB;
inline constexpr std::uint64_t page_size = 4 * KiB;

} // namespace inox
