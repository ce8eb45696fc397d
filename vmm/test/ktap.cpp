// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/ktap.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace inox::test {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Takes `start` off the text, if it begins so.
bool skip(std::string_view& text, std::string_view start) {
    if (!text.starts_with(start))
        return false;
    text.remove_prefix(start.size());
    return true;
}

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == text.npos)
        return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// Takes a number off the text, if it begins with one that fits.
bool skip_number(std::string_view& text, std::uint64_t& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{})
        return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
}

/// "[    1.234567] " and, behind it, "[    T12] ": what is behind them, with its own blanks.
std::string_view without_stamp(std::string_view line) {
    const auto bracket = [](std::string_view& text, std::string_view allowed) {
        const auto end = text.find(']');
        if (!text.starts_with('[') || end == text.npos || end > 32 ||
            text.substr(1, end - 1).find_first_not_of(allowed) != text.npos)
            return false;
        text.remove_prefix(end + 1);
        return true;
    };
    auto rest = line;
    if (skip(rest, "<")) { // a level, as /dev/kmsg has it
        const auto end = rest.find('>');
        if (end == rest.npos || end == 0 || end > 3 || !std::ranges::all_of(rest.substr(0, end), is_digit))
            return line;
        rest.remove_prefix(end + 1);
    }
    if (!bracket(rest, " .0123456789"))
        return line;
    bracket(rest, " CT0123456789");
    skip(rest, " ");
    return rest;
}

struct Parsed {
    bool ok{};
    std::uint64_t number{};
    std::string_view name{}, directive{}, text{};
};

/// (ok|not ok) N[ -][ NAME][ # DIRECTIVE[ TEXT]]
bool parse(std::string_view line, Parsed& out) {
    out.ok = !skip(line, "not ");
    if (!skip(line, "ok "))
        return false;
    if (!skip_number(line, out.number) || (!line.empty() && line[0] != ' '))
        return false;
    skip(line, " -");
    const auto mark = line.find("# ");
    out.name = trimmed(line.substr(0, mark));
    if (mark == line.npos)
        return true;
    auto rest = trimmed(line.substr(mark + 2));
    const auto word = rest.substr(0, rest.find(' '));
    static constexpr std::string_view directives[] = {"SKIP", "TODO", "XFAIL", "TIMEOUT", "ERROR"};
    out.text = rest;
    for (const auto known : directives)
        if (word.size() == known.size() &&
            std::ranges::equal(word, known, [](char a, char b) { return (a & ~0x20) == b; })) {
            out.directive = known;
            out.text = trimmed(rest.substr(word.size()));
        }
    return true;
}

/// kselftest's "selftests: DIR: PROGRAM" is DIR.PROGRAM.
std::string short_name(std::string_view name) {
    if (!skip(name, "selftests: "))
        return std::string{name};
    std::string out;
    for (auto colon = name.find(": "); colon != name.npos; colon = name.find(": ")) {
        out.append(name.substr(0, colon)) += '.';
        name.remove_prefix(colon + 2);
    }
    return out.append(name);
}

Status status_of(const Parsed& line) {
    if (line.directive == "SKIP")
        return Status::skipped;
    if (line.ok)
        return Status::passed;
    if (line.directive == "TODO" || line.directive == "XFAIL")
        return Status::skipped;
    return line.directive.empty() ? Status::failed : Status::error;
}

} // namespace

Ktap::Line Ktap::measure(std::string_view line) {
    while (line.ends_with('\n') || line.ends_with('\r'))
        line.remove_suffix(1);
    Line out;
    auto rest = without_stamp(line);
    for (;;) {
        const auto blanks = std::min(rest.find_first_not_of(' '), rest.size());
        rest.remove_prefix(blanks);
        out.indent += blanks;
        auto behind = rest;
        Parsed ignored;
        // "# ok 1 name", "# 1..3", "# TAP version 13": a program's own line below kselftest
        if (!skip(behind, "# "))
            break;
        const auto inner = trimmed(behind);
        const bool counts = inner.starts_with("# ") || inner.starts_with("1..") || inner.starts_with("TAP version ") ||
                            inner.starts_with("KTAP version ") || parse(inner, ignored);
        if (!counts)
            break;
        out.indent += 2;
        out.marked = true;
        rest = behind;
    }
    out.text = rest;
    return out;
}

void Ktap::take(std::string_view line) {
    const auto measured = measure(line);
    if (version(measured) || levels_.empty() || plan(measured) || subtest(measured) || result(measured))
        return;
    if (measured.text.starts_with("Bail out!")) {
        keep_text(measured.text);
        add("bail out", Status::error, text_);
        text_.clear();
        return;
    }
    keep_text(without_stamp(line));
}

bool Ktap::version(const Line& line) {
    auto text = line.text;
    std::uint64_t number = 0;
    if (!(skip(text, "KTAP version ") || skip(text, "TAP version ")) || !skip_number(text, number) ||
        !trimmed(text).empty())
        return false;
    close_below(line.indent, {});
    // At the indent of an open level: another stream follows the first, as when KUnit's modules are loaded in turn, or
    // when a script starts programs. In a test, the results of both are that test's.
    auto first = results_.size();
    if (!levels_.empty() && levels_.back().indent == line.indent) {
        if (levels_.size() > 1)
            first = levels_.back().first;
        end_level({});
        inner_ = no_inner;
    }
    open(line.indent, first);
    return true;
}

bool Ktap::plan(const Line& line) {
    auto text = line.text;
    std::uint64_t number = 0;
    if (!skip(text, "1..") || !skip_number(text, number) || (!text.empty() && text[0] != ' '))
        return false;
    close_below(line.indent, {});
    if (line.indent > levels_.back().indent) // its version line was left out
        open(line.indent);
    if (line.indent == levels_.back().indent)
        levels_.back().plan = number;
    return true;
}

bool Ktap::subtest(const Line& line) {
    auto text = line.text;
    if (!skip(text, "# Subtest: "))
        return false;
    if (line.indent > levels_.back().indent)
        open(line.indent);
    if (line.indent == levels_.back().indent)
        levels_.back().name = trimmed(text);
    return true;
}

bool Ktap::result(const Line& line) {
    Parsed parsed;
    if (!parse(line.text, parsed))
        return false;
    close_below(line.indent, {});
    if (line.indent > levels_.back().indent) {
        if (!line.marked) // a program that prints "ok 1" somewhere
            return false;
        open(line.indent);
    }
    auto& level = levels_.back();
    if (line.indent != level.indent)
        return false;
    if (level.gap == 0 && parsed.number > level.seen + 1)
        level.gap = level.seen + 1;
    ++level.seen;
    const auto name = parsed.name.empty() ? std::to_string(level.seen) : short_name(parsed.name);
    const auto status = status_of(parsed);
    const auto first = std::exchange(inner_, no_inner);
    bool explained = first < results_.size();
    if (explained) {
        bool bad = false;
        for (auto i = first; i < results_.size(); ++i) {
            results_[i].name.insert(0, name + ".");
            bad |= results_[i].status == Status::failed || results_[i].status == Status::error;
        }
        explained = bad || status == Status::passed || status == Status::skipped;
    }
    if (!explained || parsed.directive == "TIMEOUT" || parsed.directive == "ERROR") {
        std::string text;
        if (status != Status::passed) {
            if (!parsed.directive.empty())
                text.append(parsed.directive).append(parsed.text.empty() ? "" : " ");
            text.append(parsed.text);
            if (status != Status::skipped)
                text.append(text.empty() || text_.empty() ? "" : "\n").append(text_);
        }
        add(name, status, std::move(text));
    }
    text_.clear();
    return true;
}

void Ktap::open(std::size_t indent) { open(indent, results_.size()); }

void Ktap::open(std::size_t indent, std::size_t first) {
    if (levels_.size() < deepest)
        levels_.push_back({.indent = indent, .first = first});
}

void Ktap::close_below(std::size_t indent, std::string_view why) {
    while (levels_.size() > 1 && levels_.back().indent > indent)
        end_level(why);
}

void Ktap::end_level(std::string_view why) {
    const Level level = std::move(levels_.back());
    levels_.pop_back();
    if (level.seen < level.plan)
        add("result " + std::to_string(level.gap != 0 ? level.gap : level.seen + 1) +
                (level.plan - level.seen == 1 ? ""
                 : level.gap != 0             ? " and others"
                                              : " and later"),
            Status::error,
            "no result, but " + std::to_string(level.plan) + " were announced" +
                (why.empty() ? "" : ": " + std::string{why}) + (text_.empty() ? "" : "\n" + text_));
    inner_ = std::min(inner_, level.first);
    if (levels_.empty() || why.empty() || level.name.empty())
        return;
    // Its parent's result line will not come, which would have its name.
    for (auto i = level.first; i < results_.size(); ++i)
        results_[i].name.insert(0, level.name + ".");
}

void Ktap::finish(std::string_view why) {
    const std::string reason{why.empty() ? "the output ends here" : why};
    while (!levels_.empty())
        end_level(reason);
    inner_ = no_inner;
    text_.clear();
}

void Ktap::add(std::string name, Status status, std::string text) {
    if (results_.size() >= most_results) {
        ++dropped_;
        return;
    }
    if (text.size() > longest_text)
        text.resize(longest_text);
    results_.push_back({std::move(name), status, std::move(text)});
}

void Ktap::keep_text(std::string_view line) {
    if (text_.size() >= longest_text)
        return;
    while (line.ends_with('\n') || line.ends_with('\r'))
        line.remove_suffix(1);
    text_.append(text_.empty() ? "" : "\n").append(line.substr(0, longest_text));
}

} // namespace inox::test
