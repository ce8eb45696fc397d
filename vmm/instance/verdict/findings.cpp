// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/findings.hpp"

#include "vmm/instance/verdict/kernel_text.hpp"

namespace inox {
namespace {

/// A report ends with this line, or is over after so many: registers, stack and code are less.
constexpr std::string_view report_end = "---[ end trace";
constexpr unsigned longest_report = 120;

} // namespace

Result<std::unique_ptr<Findings>> Findings::create(std::span<const std::string> patterns) {
    auto findings = std::make_unique<Findings>();
    findings->line_.reserve(longest_line);
    for (const auto& text : patterns) {
        if (text == kernel_word) {
            findings->kernel_ = true;
            continue;
        }
        auto pattern = LinePattern::compile(text);
        if (!pattern)
            return fail(Errc::bad_option,
                        "--fail-on '" + text + "' is not a valid regular expression: " + pattern.error(),
                        "it is a POSIX extended expression, as for grep -E, or the word kernel");
        findings->parts_ += pattern->parts();
        findings->patterns_.push_back({text, std::move(*pattern)});
    }
    return findings;
}

void Findings::feed(std::span<const std::byte> output) noexcept {
    std::lock_guard lock{mutex_};
    for (const auto byte : ignoring_ ? std::span<const std::byte>{} : output)
        take(static_cast<char>(byte));
}

void Findings::take(char c) {
    if (!escapes_.passes(c))
        return;
    if (c == '\n') {
        look();
        line_.clear();
        ++number_;
    } else if (static_cast<unsigned char>(c) >= ' ' && c != 0x7f && line_.size() < longest_line) {
        line_ += c;
    }
}

void Findings::ignore_rest() noexcept {
    std::lock_guard lock{mutex_};
    ignoring_ = true;
    line_.clear();
}

void Findings::finish() noexcept {
    std::lock_guard lock{mutex_};
    if (!line_.empty())
        look();
    line_.clear();
}

void Findings::look() {
    for (auto& [text, pattern] : patterns_) {
        pattern.restart();
        for (const char c : line_)
            pattern.feed(c);
        if (pattern.found()) {
            add(text);
            break;
        }
    }
    if (!kernel_)
        return;
    const auto [text, stamped] = kernel_line(line_);
    stamps_ |= stamped;
    if (stamps_ && !stamped)
        return; // a program's
    if (report_lines_ != 0)
        report_lines_ = text.starts_with(report_end) ? 0 : report_lines_ - 1;
    const auto kind = kernel_report(text);
    if (!kind || (report_lines_ != 0 && kind != "panic"))
        return;
    report_lines_ = longest_report;
    add(*kind);
}

void Findings::add(std::string_view kind) {
    ++count_;
    if (found_.size() < most_kept)
        found_.push_back({number_, std::string{kind}, line_});
}

std::vector<Finding> Findings::list() const {
    std::lock_guard lock{mutex_};
    return found_;
}

std::uint64_t Findings::count() const {
    std::lock_guard lock{mutex_};
    return count_;
}

} // namespace inox
