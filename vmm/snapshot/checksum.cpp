// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/checksum.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace inox::snapshot {
namespace {

constexpr std::uint64_t prime_1 = 0x9e3779b185ebca87;
constexpr std::uint64_t prime_2 = 0xc2b2ae3d27d4eb4f;
constexpr std::uint64_t prime_3 = 0x165667b19e3779f9;
constexpr std::uint64_t prime_4 = 0x85ebca77c2b2ae63;
constexpr std::uint64_t prime_5 = 0x27d4eb2f165667c5;

template <class T> T load(const std::byte* from) {
    T value{};
    std::memcpy(&value, from, sizeof value);
    return value;
}

std::uint64_t round(std::uint64_t lane, std::uint64_t input) { return std::rotl(lane + input * prime_2, 31) * prime_1; }

std::uint64_t merge(std::uint64_t sum, std::uint64_t lane) { return (sum ^ round(0, lane)) * prime_1 + prime_4; }

} // namespace

void Checksum::add(std::span<const std::byte> bytes) {
    const auto consume = [&](const std::byte* from) {
        for (std::size_t i = 0; i < lanes_.size(); ++i)
            lanes_[i] = round(lanes_[i], load<std::uint64_t>(from + i * 8));
    };
    const auto held = size_ % rest_.size();
    size_ += bytes.size();
    if (held != 0) {
        const auto take = std::min(bytes.size(), rest_.size() - held);
        std::copy_n(bytes.begin(), take, rest_.begin() + static_cast<std::ptrdiff_t>(held));
        bytes = bytes.subspan(take);
        if (held + take < rest_.size())
            return;
        consume(rest_.data());
    }
    for (; bytes.size() >= rest_.size(); bytes = bytes.subspan(rest_.size()))
        consume(bytes.data());
    std::ranges::copy(bytes, rest_.begin());
}

std::uint64_t Checksum::value() const {
    std::uint64_t sum = prime_5;
    if (size_ >= rest_.size()) {
        sum = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
        for (const auto lane : lanes_)
            sum = merge(sum, lane);
    }
    sum += size_;
    const std::byte* at = rest_.data();
    std::size_t left = size_ % rest_.size();
    for (; left >= 8; left -= 8, at += 8)
        sum = std::rotl(sum ^ round(0, load<std::uint64_t>(at)), 27) * prime_1 + prime_4;
    if (left >= 4) {
        sum = std::rotl(sum ^ load<std::uint32_t>(at) * prime_1, 23) * prime_2 + prime_3;
        left -= 4;
        at += 4;
    }
    for (; left > 0; --left, ++at)
        sum = std::rotl(sum ^ std::to_integer<std::uint64_t>(*at) * prime_5, 11) * prime_1;
    sum = (sum ^ sum >> 33) * prime_2;
    sum = (sum ^ sum >> 29) * prime_3;
    return sum ^ sum >> 32;
}

std::uint64_t checksum(std::span<const std::byte> bytes) {
    Checksum sum;
    sum.add(bytes);
    return sum.value();
}

} // namespace inox::snapshot
