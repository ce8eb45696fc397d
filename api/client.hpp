// SPDX-License-Identifier: Apache-2.0
// The other side of the socket, for `inox ctl`. Blocking.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "vmm/base/os.hpp"

namespace api {

/// For one part of a path, or a value of a query: what has a meaning there is written as %20.
std::string percent_encoded(std::string_view text);

class Client {
public:
    struct Answer {
        unsigned status{};
        std::string body{};
    };

    explicit Client(std::string path) : path_{std::move(path)} {}

    /// not_found when nobody listens there, host_error when the answer is none. What a request line cannot hold of
    /// `target`, such as spaces, is percent-encoded.
    [[nodiscard]] vmm::Result<Answer> call(std::string_view method, std::string_view target,
                                           std::string_view body = {}) const;
    /// Each line of an answer in pieces, until `on_line` returns false or the other side ends it. What is no such
    /// answer is returned.
    [[nodiscard]] vmm::Result<Answer> follow(std::string_view target,
                                             const std::function<bool(std::string_view line)>& on_line) const;

private:
    [[nodiscard]] vmm::Result<vmm::UniqueFd> connect() const;
    [[nodiscard]] vmm::Result<vmm::UniqueFd> send(std::string_view method, std::string_view target,
                                                  std::string_view body) const;
    std::string path_;
};

} // namespace api
