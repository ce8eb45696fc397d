// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/expect.hpp"

namespace inox {

Result<std::unique_ptr<Expect>> Expect::create(const std::string& pattern) {
    auto compiled = LinePattern::compile(pattern);
    if (!compiled)
        return fail(
            Errc::bad_option, "--expect '" + pattern + "' is not a valid regular expression: " + compiled.error(),
            "it is a POSIX extended expression, as for grep -E; put a backslash before ( [ { * + ? . meant literally");
    return std::unique_ptr<Expect>{new Expect{std::move(*compiled)}};
}

bool Expect::feed(std::span<const std::byte> output) noexcept {
    fed_ += output.size();
    for (const auto byte : output) {
        if (seen_)
            return true;
        const auto character = static_cast<char>(byte);
        if (character == '\n') {
            seen_ = pattern_.found();
            pattern_.restart();
            length_ = 0;
        } else if (character != '\r' && character != '\0' && length_ < max_line) {
            pattern_.feed(character);
            ++length_;
        }
    }
    return seen_ = seen_ || (length_ != 0 && pattern_.found_already());
}

} // namespace inox
