// SPDX-License-Identifier: Apache-2.0
// The client's side of the socket, for `inox ctl`. It blocks, up to a time limit.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/os.hpp"

namespace inox::api {

/// One part of a path, or a value of a query: characters with a meaning there are written as %20.
std::string percent_encoded(std::string_view text);

class Client {
public:
    struct Answer {
        unsigned status{};
        std::string body{};
    };

    /// `limit`: from the call to the end of the answer, or of its head where pieces follow.
    explicit Client(std::string path, std::chrono::milliseconds limit = std::chrono::minutes{1})
        : path_{std::move(path)}, limit_{limit} {}

    /// not_found when nobody listens there, host_error when the answer is none, timed_out after the limit. What a
    /// request line cannot hold of `target`, such as spaces, is percent-encoded. `passed`: descriptors that go along.
    [[nodiscard]] Result<Answer> call(std::string_view method, std::string_view target, std::string_view body = {},
                                      std::span<const int> passed = {}) const;
    /// Calls `on_line` with each line of a chunked answer, until it returns false or the server ends the answer. Any
    /// other answer is returned.
    [[nodiscard]] Result<Answer> follow(std::string_view target,
                                        const std::function<bool(std::string_view line)>& on_line) const;

private:
    class Wait;
    class Reader;
    [[nodiscard]] Result<UniqueFd> connect(const Wait& wait) const;
    [[nodiscard]] Result<UniqueFd> send(const Wait& wait, std::string_view method, std::string_view target,
                                        std::string_view body, std::span<const int> passed = {}) const;
    /// Why there is no answer.
    [[nodiscard]] std::unexpected<Error> no_answer(const Wait& wait) const;
    [[nodiscard]] Result<Answer> rest(Reader& reader, const Wait& wait) const;

    std::string path_;
    std::chrono::milliseconds limit_;
};

} // namespace inox::api
