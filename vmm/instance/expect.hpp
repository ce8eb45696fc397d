// SPDX-License-Identifier: Apache-2.0
// Watches serial output for a pattern, line by line.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "vmm/base/error.hpp"

namespace inox {

/// POSIX extended regular expression. An unfinished line is searched too, so prompts match. Lines are cut at
/// max_line bytes: a guest cannot make the search costly or large. One thread at a time.
class Expect {
public:
    static constexpr std::size_t max_line = 4096;

    /// bad_option with the reason when the pattern does not compile.
    static Result<std::unique_ptr<Expect>> create(const std::string& pattern);
    ~Expect();
    Expect(const Expect&) = delete;
    Expect& operator=(const Expect&) = delete;

    /// True once the pattern was seen.
    bool feed(std::span<const std::byte> output);

private:
    struct Regex;
    explicit Expect(std::unique_ptr<Regex> regex);
    [[nodiscard]] bool search() const;
    std::unique_ptr<Regex> regex_;
    std::string line_;
    bool seen_{false};
};

} // namespace inox
