// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/report.hpp"

#include <algorithm>
#include <cstdio>

#include "vmm/config/config_text.hpp"

namespace inox::test {
namespace {

std::string seconds_text(double seconds) { return format("%.3f", seconds); }

std::string joined(const std::vector<std::string>& lines) {
    std::string out;
    for (const auto& line : lines)
        out += line + "\n";
    return out;
}

/// Bytes of the UTF-8 character at the start; 0: there is none.
std::size_t character(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto first = byte(0);
    const std::size_t size = first < 0x80   ? 1
                             : first < 0xc2 ? 0
                             : first < 0xe0 ? 2
                             : first < 0xf0 ? 3
                             : first < 0xf5 ? 4
                                            : 0;
    for (std::size_t i = 1; i < size; ++i)
        if ((byte(i) & 0xc0) != 0x80)
            return 0;
    const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
    const bool surrogate = first == 0xed && byte(1) > 0x9f;
    const bool above = first == 0xf4 && byte(1) > 0x8f;
    const bool no_character = first == 0xef && byte(1) == 0xbf && byte(2) > 0xbd;
    return overlong || surrogate || above || no_character ? 0 : size;
}

std::string attribute(const char* name, std::string_view value) {
    std::string out = std::string{" "} + name + "=\"";
    for (const char c : xml_text(value))
        if (c == '\n')
            out += "&#10;";
        else
            out += c;
    return out + "\"";
}

struct Counts {
    std::size_t tests{}, failures{}, errors{}, skipped{};
};

Status status_of(Verdict verdict) {
    switch (verdict) {
    case Verdict::good:
        return Status::passed;
    case Verdict::failed:
    case Verdict::findings:
        return Status::failed;
    default:
        return Status::error;
    }
}

/// The machine itself is the first case. The guest's own tests explain a failure, so it does not count twice.
std::vector<CaseResult> cases_of(const Done& done) {
    const auto& outcome = done.outcome;
    std::vector<CaseResult> out;
    const bool explained =
        outcome.verdict == Verdict::failed && std::ranges::any_of(outcome.cases, [](const CaseResult& one) {
            return one.status == Status::failed || one.status == Status::error;
        });
    out.push_back({done.command.empty() ? "boot" : "boot and command",
                   explained ? Status::passed : status_of(outcome.verdict),
                   outcome.why + "\n" + joined(outcome.details) + "repeat: " + done.repeat + "\n" +
                       (outcome.folder.empty() ? "" : "kept: " + outcome.folder + "\n") +
                       (done.log_tail.empty() ? "" : "\n" + done.log_tail)});
    out.insert(out.end(), outcome.cases.begin(), outcome.cases.end());
    return out;
}

Counts count(std::span<const CaseResult> cases) {
    Counts out;
    for (const auto& one : cases) {
        ++out.tests;
        out.failures += one.status == Status::failed;
        out.errors += one.status == Status::error;
        out.skipped += one.status == Status::skipped;
    }
    return out;
}

std::string counts_text(const Counts& counts) {
    return attribute("tests", std::to_string(counts.tests)) + attribute("failures", std::to_string(counts.failures)) +
           attribute("errors", std::to_string(counts.errors)) + attribute("skipped", std::to_string(counts.skipped));
}

std::string case_xml(const CaseResult& one, const std::string& classname, double seconds) {
    std::string out = "    <testcase" + attribute("classname", classname) + attribute("name", one.name) +
                      attribute("time", seconds_text(seconds));
    if (one.status == Status::passed)
        return out + "/>\n";
    const auto first = std::string_view{one.text}.substr(0, one.text.find('\n'));
    if (one.status == Status::skipped)
        return out + ">\n      <skipped" + attribute("message", first) + "/>\n    </testcase>\n";
    const char* element = one.status == Status::failed ? "failure" : "error";
    return out + ">\n      <" + element + attribute("message", first) + ">" + xml_text(one.text) + "</" + element +
           ">\n    </testcase>\n";
}

std::string padded(std::string text, std::size_t width) {
    text.resize(std::max(text.size(), width), ' ');
    return text;
}

/// For a line of TAP: no '#', which begins a directive, and no control character.
std::string tap_name(std::string_view name) {
    std::string out;
    for (const char c : name)
        out += c == '#' || static_cast<unsigned char>(c) < ' ' ? '_' : c;
    return out;
}

std::string tap_line(Status status, std::size_t number, const std::string& name, const std::string& text) {
    std::string out = status == Status::failed || status == Status::error ? "not ok " : "ok ";
    out += std::to_string(number) + " - " + tap_name(name);
    if (status == Status::skipped)
        out += " # SKIP " + tap_name(text.substr(0, text.find('\n')));
    return out + "\n";
}

std::string tap_comments(std::string_view text, const char* indent) {
    std::string out;
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        out += indent + ("# " + printable(std::string{text.substr(0, end)}, 1000)) + "\n";
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

} // namespace

std::string xml_text(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const auto size = character(text);
        if (size == 0 ||
            (size == 1 && static_cast<unsigned char>(text[0]) < ' ' && text[0] != '\t' && text[0] != '\n')) {
            if (text[0] != '\r')
                out += "\xef\xbf\xbd"; // U+FFFD
            text.remove_prefix(1);
            continue;
        }
        switch (text[0]) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '"':
            out += "&quot;";
            break;
        default:
            out += text.substr(0, size);
        }
        text.remove_prefix(size);
    }
    return out;
}

Done not_run(const Plan& plan, const Machine& machine, std::string why) {
    Done done{.machine = machine,
              .outcome = {},
              .repeat = repeat_line(plan, machine),
              .command = command_line(plan),
              .log_tail = {}};
    done.outcome.why = std::move(why);
    return done;
}

std::string verdict_text(const Done& done) {
    const auto& outcome = done.outcome;
    std::string out = "inox test: " + done.machine.text() + ": " + std::string{verdict_word(outcome.verdict)} +
                      " after " + format("%.1f", outcome.seconds) + " s";
    if (!outcome.cases.empty()) {
        const auto counts = count(outcome.cases);
        out += format("; %zu tests, %zu failed, %zu without a result, %zu skipped", counts.tests, counts.failures,
                      counts.errors, counts.skipped);
        if (outcome.dropped_cases != 0)
            out += format("; %zu more are not listed", outcome.dropped_cases);
    }
    out += "\n";
    if (outcome.verdict == Verdict::good)
        return out;
    out += "  " + printable(outcome.why, 1000) + "\n";
    static constexpr std::size_t most_details = 20;
    for (std::size_t i = 0; i < outcome.details.size() && i < most_details; ++i)
        if (outcome.details[i] != outcome.why)
            out += "  " + printable(outcome.details[i], 1000) + "\n";
    if (outcome.details.size() > most_details)
        out += format("  %zu more lines are in the result\n", outcome.details.size() - most_details);
    for (std::string_view tail = done.log_tail; !tail.empty();) {
        const auto end = std::min(tail.find('\n'), tail.size());
        out += "  | " + printable(std::string{tail.substr(0, end)}, 400) + "\n";
        tail.remove_prefix(std::min(end + 1, tail.size()));
    }
    if (!outcome.folder.empty())
        out += "  kept: " + outcome.folder + "\n";
    return out + "  repeat: " + done.repeat + "\n";
}

std::string table_text(std::span<const Done> all, double seconds) {
    std::size_t width = 6;
    for (const auto& one : all)
        width = std::max(width, one.machine.text().size());
    std::string out;
    std::size_t good = 0;
    for (const auto& one : all) {
        const auto counts = count(one.outcome.cases);
        out += "  " + padded(one.machine.text(), width) + "  " +
               padded(std::string{verdict_word(one.outcome.verdict)}, 13) + format("  %8.1f s", one.outcome.seconds);
        if (counts.tests != 0)
            out += format("  %zu of %zu tests passed", counts.tests - counts.failures - counts.errors - counts.skipped,
                          counts.tests);
        out += "\n";
        good += one.outcome.verdict == Verdict::good;
    }
    return out + format("inox test: %zu of %zu machines are good, %.1f s\n", good, all.size(), seconds);
}

std::string junit_xml(std::span<const Done> all, double seconds) {
    std::string suites;
    Counts total;
    for (const auto& one : all) {
        const auto cases = cases_of(one);
        const auto counts = count(cases);
        total.tests += counts.tests;
        total.failures += counts.failures;
        total.errors += counts.errors;
        total.skipped += counts.skipped;
        const auto name = one.machine.text();
        suites += "  <testsuite" + attribute("name", name) + counts_text(counts) +
                  attribute("time", seconds_text(one.outcome.seconds)) + ">\n    <properties>\n";
        const std::pair<const char*, std::string> properties[] = {{"kernel", one.machine.kernel.image},
                                                                  {"cpus", one.machine.cpus},
                                                                  {"memory", one.machine.memory},
                                                                  {"command", one.command},
                                                                  {"repeat", one.repeat},
                                                                  {"inox_version", INOX_VERSION}};
        for (const auto& [key, value] : properties)
            if (!value.empty())
                suites += "      <property" + attribute("name", key) + attribute("value", value) + "/>\n";
        suites += "    </properties>\n";
        bool first = true;
        for (const auto& item : cases)
            suites += case_xml(item, name, std::exchange(first, false) ? one.outcome.seconds : 0);
        suites += "  </testsuite>\n";
    }
    return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + attribute("name", "inox test") +
           counts_text(total) + attribute("time", seconds_text(seconds)) + ">\n" + suites + "</testsuites>\n";
}

std::string tap_text(std::span<const Done> all) {
    std::string out = "TAP version 14\n1.." + std::to_string(all.size()) + "\n";
    std::size_t number = 0;
    for (const auto& one : all) {
        const auto& cases = one.outcome.cases;
        if (!cases.empty()) {
            out += "    # Subtest: " + tap_name(one.machine.text()) + "\n    1.." + std::to_string(cases.size()) + "\n";
            for (std::size_t i = 0; i < cases.size(); ++i) {
                out += "    " + tap_line(cases[i].status, i + 1, cases[i].name, cases[i].text);
                if (cases[i].status == Status::failed || cases[i].status == Status::error)
                    out += tap_comments(cases[i].text, "    ");
            }
        }
        const bool good = one.outcome.verdict == Verdict::good;
        out += tap_line(good ? Status::passed : Status::failed, ++number, one.machine.text(), {});
        if (!good)
            out += tap_comments(std::string{verdict_word(one.outcome.verdict)} + ": " + one.outcome.why + "\n" +
                                    joined(one.outcome.details) + "repeat: " + one.repeat,
                                "");
    }
    return out;
}

} // namespace inox::test
