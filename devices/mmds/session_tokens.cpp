// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/session_tokens.hpp"

#include <bit>
#include <charconv>
#include <sys/random.h>

#include "vmm/base/hex.hpp"

namespace inox::devices::mmds {
namespace {

constexpr std::size_t digits = 16; // of a 64-bit number

std::uint64_t milliseconds(SessionTokens::Time time) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count());
}

} // namespace

std::uint64_t siphash(std::uint64_t key0, std::uint64_t key1, std::uint64_t message) {
    std::uint64_t a = key0 ^ 0x736f6d6570736575;
    std::uint64_t b = key1 ^ 0x646f72616e646f6d;
    std::uint64_t c = key0 ^ 0x6c7967656e657261;
    std::uint64_t d = key1 ^ 0x7465646279746573;
    const auto rounds = [&](int count) {
        for (; count != 0; --count) {
            a += b, b = std::rotl(b, 13) ^ a, a = std::rotl(a, 32);
            c += d, d = std::rotl(d, 16) ^ c;
            a += d, d = std::rotl(d, 21) ^ a;
            c += b, b = std::rotl(b, 17) ^ c, c = std::rotl(c, 32);
        }
    };
    constexpr std::uint64_t length_block = std::uint64_t{8} << 56; // the message has 8 bytes
    for (const std::uint64_t block : {message, length_block}) {
        d ^= block;
        rounds(2);
        a ^= block;
    }
    c ^= 0xff;
    rounds(4);
    return a ^ b ^ c ^ d;
}

Result<SessionTokens> SessionTokens::create() {
    Key key{};
    if (::getrandom(key.data(), sizeof key, 0) != sizeof key)
        return fail_errno(Errc::host_error, "getrandom failed");
    return SessionTokens{key};
}

std::string SessionTokens::sealed(std::uint64_t expiry) const {
    return format("%016llx%016llx%016llx", hex(expiry), hex(siphash(key_[0], key_[1], expiry)),
                  hex(siphash(key_[2], key_[3], expiry)));
}

std::string SessionTokens::issue(std::chrono::seconds life, Time now) const { return sealed(milliseconds(now + life)); }

bool SessionTokens::valid(std::string_view token, Time now) const {
    std::uint64_t expiry = 0;
    const auto* end = token.data() + std::min(token.size(), digits);
    if (token.size() != 3 * digits || std::from_chars(token.data(), end, expiry, 16).ptr != end)
        return false;
    const std::string right = sealed(expiry);
    unsigned difference = 0; // always compares all bytes, so that the time tells nothing
    for (std::size_t i = 0; i < right.size(); ++i)
        difference |= static_cast<unsigned char>(right[i] ^ token[i]);
    return difference == 0 && milliseconds(now) < expiry;
}

} // namespace inox::devices::mmds
