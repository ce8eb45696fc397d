// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/expect.hpp"

#include <array>
#include <regex.h>

namespace inox {

struct Expect::Regex {
    regex_t compiled{};
    bool valid{false};
    Regex() = default;
    Regex(const Regex&) = delete;
    Regex& operator=(const Regex&) = delete;
    ~Regex() {
        if (valid)
            ::regfree(&compiled);
    }
};

Expect::Expect(std::unique_ptr<Regex> regex) : regex_{std::move(regex)} {}
Expect::~Expect() = default;

Result<std::unique_ptr<Expect>> Expect::create(const std::string& pattern) {
    auto regex = std::make_unique<Regex>();
    if (const int error = ::regcomp(&regex->compiled, pattern.c_str(), REG_EXTENDED | REG_NOSUB); error != 0) {
        std::array<char, 128> text{};
        ::regerror(error, &regex->compiled, text.data(), text.size());
        return fail(
            Errc::bad_option, "--expect '" + pattern + "' is not a valid regular expression: " + text.data(),
            "it is a POSIX extended expression, as for grep -E; put a backslash before ( [ { * + ? . meant literally");
    }
    regex->valid = true;
    return std::unique_ptr<Expect>{new Expect{std::move(regex)}};
}

bool Expect::search() const { return ::regexec(&regex_->compiled, line_.c_str(), 0, nullptr, 0) == 0; }

bool Expect::feed(std::span<const std::byte> output) {
    for (const auto byte : output) {
        if (seen_)
            return true;
        const auto character = static_cast<char>(byte);
        if (character == '\n') {
            seen_ = search();
            line_.clear();
        } else if (character != '\r' && character != '\0' && line_.size() < max_line) {
            line_ += character;
        }
    }
    return seen_ = seen_ || (!line_.empty() && search());
}

} // namespace inox
