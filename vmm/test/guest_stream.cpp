// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/guest_stream.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

namespace inox::test {

void GuestStream::read() {
    if (!file_)
        file_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)); // NOLINT(*-vararg)
    if (!file_)
        return;
    std::array<char, 64 * 1024> buffer;
    for (;;) {
        const auto size = ::read(file_.get(), buffer.data(), buffer.size());
        if (size <= 0)
            return;
        std::string_view text{buffer.data(), static_cast<std::size_t>(size)};
        while (!text.empty()) {
            const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
            rest_ += text.substr(0, end);
            text.remove_prefix(end);
            if (rest_.ends_with("\r\n"))
                rest_.erase(rest_.size() - 2, 1);
            if (rest_.ends_with('\n') || rest_.size() >= longest_line) {
                line_(rest_);
                rest_.clear();
            }
        }
    }
}

void GuestStream::finish() {
    read();
    if (!rest_.empty())
        line_(rest_);
    rest_.clear();
    file_.reset();
}

std::string last_lines(const std::string& path, std::size_t count) {
    static constexpr off_t most = 8 * 1024;
    const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!file)
        return {};
    std::string text(static_cast<std::size_t>(most), '\0');
    const auto size = ::lseek(file.get(), 0, SEEK_END);
    const auto got = ::pread(file.get(), text.data(), text.size(), std::max<off_t>(size - most, 0));
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    std::erase(text, '\r');
    while (text.ends_with('\n'))
        text.pop_back();
    if (text.empty())
        return {};
    auto from = text.size();
    for (std::size_t i = 0; i < count && from != text.npos && from != 0; ++i)
        from = text.rfind('\n', from - 1);
    return (from == text.npos || from == 0 ? text : text.substr(from + 1)) + "\n";
}

std::optional<std::string> read_start(const std::string& path, std::size_t most) {
    const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!file)
        return std::nullopt;
    std::string text;
    std::array<char, 64 * 1024> buffer;
    while (text.size() < most) {
        const auto size = ::read(file.get(), buffer.data(), std::min(buffer.size(), most - text.size()));
        if (size <= 0)
            break;
        text.append(buffer.data(), static_cast<std::size_t>(size));
    }
    return text;
}

} // namespace inox::test
