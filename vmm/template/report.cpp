// SPDX-License-Identifier: Apache-2.0
#include "vmm/template/report.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "vmm/base/os.hpp"

namespace inox::clones {
namespace {

/// A field ends with a NUL.
void put(std::string& text, std::string field) {
    std::erase(field, '\0');
    text.append(field).push_back('\0');
}

template <class T> std::optional<T> number(std::string_view text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() ? std::optional{value} : std::nullopt;
}

constexpr std::string_view good = "running";
constexpr std::string_view bad = "failed";

} // namespace

void send_report(int to, const Result<void>& running, std::optional<std::uint64_t> first_instruction) noexcept {
    std::string text;
    put(text, std::string{running ? good : bad});
    if (running) {
        put(text, first_instruction ? std::to_string(*first_instruction) : "");
    } else {
        const auto& error = running.error();
        put(text, std::to_string(static_cast<unsigned>(error.code)));
        put(text, std::to_string(error.sys_errno));
        put(text, error.what);
        put(text, error.hint);
        put(text, error.where);
    }
    static_cast<void>(write_all(to, text)); // a template that is gone need not know
}

Result<std::optional<std::uint64_t>> read_report(std::string_view text) {
    std::array<std::string_view, 6> fields{};
    std::size_t count = 0;
    for (std::size_t start = 0; start < text.size() && count < fields.size(); ++count) {
        const auto end = text.find('\0', start);
        if (end == text.npos)
            break;
        fields[count] = text.substr(start, end - start);
        start = end + 1;
    }
    if (count == 2 && fields[0] == good && fields[1].empty())
        return std::nullopt;
    if (count == 2 && fields[0] == good)
        if (const auto at = number<std::uint64_t>(fields[1]))
            return *at;
    const auto code = number<unsigned>(fields[1]);
    const auto sys_errno = number<int>(fields[2]);
    if (count == 6 && fields[0] == bad && code && *code <= UINT8_MAX && sys_errno)
        return std::unexpected<Error>{Error{static_cast<Errc>(*code), std::string{fields[3]}, std::string{fields[4]},
                                            std::string{fields[5]}, *sys_errno}};
    return fail(Errc::host_error, "the clone's process ended before its guest ran",
                "look at the template's events for how, and at the host's log for why");
}

} // namespace inox::clones
