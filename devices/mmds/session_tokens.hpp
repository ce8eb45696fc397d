// SPDX-License-Identifier: Apache-2.0
// The session tokens of the metadata service, version 2.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"

namespace inox::devices::mmds {

/// A token is its time of expiry with a keyed hash (SipHash-2-4, 128 bits), so nothing is kept for those given out: a
/// guest may ask for as many as it likes. The key is this object's own; it does not leave the process.
class SessionTokens {
public:
    using Time = std::chrono::steady_clock::time_point;
    static constexpr std::chrono::seconds shortest{1};
    static constexpr std::chrono::seconds longest{21600};

    static Result<SessionTokens> create();

    [[nodiscard]] std::string issue(std::chrono::seconds life, Time now) const;
    [[nodiscard]] bool valid(std::string_view token, Time now) const;

private:
    using Key = std::array<std::uint64_t, 4>; // two of SipHash's
    explicit SessionTokens(const Key& key) : key_{key} {}
    [[nodiscard]] std::string sealed(std::uint64_t expiry) const;

    Key key_;
};

/// SipHash-2-4 (Aumasson and Bernstein) of one 64-bit message.
std::uint64_t siphash(std::uint64_t key0, std::uint64_t key1, std::uint64_t message);

} // namespace inox::devices::mmds
