// SPDX-License-Identifier: Apache-2.0
// The metadata service's HTTP: one request's bytes to one response's bytes, as Firecracker answers them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "devices/metadata_source.hpp"
#include "devices/mmds/session_tokens.hpp"

namespace inox::devices::mmds {

enum class Version : std::uint8_t {
    v1, ///< tokens are handed out but not asked for
    v2, ///< a GET needs a token
};

struct Reply {
    std::string bytes{};
    bool close{false}; ///< the connection ends after it
};

/// Length of the first whole request in `bytes` (head and Content-Length's body); nullopt while there is more to come.
/// A request whose length cannot be told ends with its head.
std::optional<std::size_t> request_length(std::string_view bytes);

class Responder {
public:
    struct Options {
        Version version{Version::v1};
        bool always_text{false}; ///< as EC2's service: the Accept header does not count
    };
    /// `source` must outlive it.
    Responder(const MetadataSource& source, const SessionTokens& tokens, const Options& options)
        : source_{source}, tokens_{tokens}, options_{options} {}

    /// `request`: what request_length() has measured. Never fails: a request that is none gets its 400.
    [[nodiscard]] Reply answer(std::string_view request, SessionTokens::Time now) const;
    /// For a request that is larger than anybody's.
    [[nodiscard]] static Reply too_large();

private:
    struct Request;
    struct Content;
    [[nodiscard]] Content serve(const Request& request, SessionTokens::Time now) const;
    [[nodiscard]] Content read(const Request& request) const;
    [[nodiscard]] Content give_token(const Request& request, SessionTokens::Time now) const;

    const MetadataSource& source_;
    SessionTokens tokens_;
    Options options_;
};

} // namespace inox::devices::mmds
