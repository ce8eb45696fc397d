// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/outcome.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace inox::test {
namespace {

using Json = nlohmann::json;

constexpr int panic_code = 120;
constexpr int hang_code = 121;
constexpr int findings_code = 122;
constexpr int timeout_code = 124;

struct Named {
    std::string_view name;
    Verdict verdict;
};

// How a kernel ends a machine by itself
constexpr Named ends[] = {
    {"guest_panic", Verdict::panic},           {"guest_triple_fault", Verdict::panic},
    {"guest_halted", Verdict::hang},           {"guest_silent", Verdict::hang},
    {"guest_hard_lockup", Verdict::hang},      {"guest_emulation_failure", Verdict::findings},
    {"guest_entry_failed", Verdict::findings}, {"guest_findings", Verdict::good}, // what was found says what it is
    {"timed_out", Verdict::timeout},           {"guest_rebooted", Verdict::failed},
    {"expect_not_seen", Verdict::failed},
};

constexpr Named kinds[] = {
    {"panic", Verdict::panic},      {"double fault", Verdict::panic},    {"soft lockup", Verdict::hang},
    {"hard lockup", Verdict::hang}, {"workqueue lockup", Verdict::hang}, {"RCU stall", Verdict::hang},
    {"hung task", Verdict::hang},
};

std::optional<Verdict> look_up(std::span<const Named> all, std::string_view name) {
    const auto found = std::ranges::find(all, name, &Named::name);
    return found == all.end() ? std::nullopt : std::optional{found->verdict};
}

int code_of(Verdict verdict, int command) {
    switch (verdict) {
    case Verdict::panic:
        return panic_code;
    case Verdict::hang:
        return hang_code;
    case Verdict::findings:
        return findings_code;
    case Verdict::failed:
        return std::clamp(command, 1, Outcome::largest_command_code);
    case Verdict::timeout:
        return timeout_code;
    case Verdict::unable:
        return Outcome::unable_code;
    case Verdict::good:
        return Outcome::good_code;
    }
    return Outcome::unable_code;
}

std::string text_at(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

std::string plural(std::size_t count, const char* what) {
    return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

/// The first error that inox printed, and its hint.
void take_error(const std::string& errors, Outcome& out) {
    static constexpr std::string_view mark = "inox: error: ";
    const auto at = errors.starts_with(mark) ? 0 : errors.find("\n" + std::string{mark});
    if (at == errors.npos)
        return;
    const auto line = errors.substr(errors.find(mark, at) + mark.size());
    out.why = line.substr(0, line.find('\n'));
    const auto next = line.find('\n');
    if (next != line.npos && line.compare(next + 1, 8, "  hint: ") == 0)
        out.details.push_back("hint: " + line.substr(next + 9, line.find('\n', next + 1) - next - 9));
}

/// What the kernel reported in its log counts more than how the machine ended.
void take_findings(const Json& result, Outcome& out) {
    const auto findings = result.find("findings");
    if (findings == result.end() || !findings->is_array() || findings->empty())
        return;
    auto worst = Verdict::good;
    std::string first;
    for (const auto& one : *findings) {
        const auto verdict = look_up(kinds, text_at(one, "kind")).value_or(Verdict::findings);
        const auto text = "line " + std::to_string(one.value("line", std::uint64_t{})) + " of the console, " +
                          text_at(one, "kind") + ": " + text_at(one, "text");
        if (verdict < worst) {
            worst = verdict;
            first = text;
        }
        out.details.push_back(text);
    }
    const auto count = result.value("finding_count", std::uint64_t{findings->size()});
    if (count > findings->size())
        out.details.push_back(std::to_string(count - findings->size()) + " more reports of the kernel");
    if (worst >= out.verdict)
        return;
    out.verdict = worst;
    out.why = first;
}

void take_result(const Json& result, Outcome& out) {
    out.seconds =
        result.contains("seconds") && result["seconds"].is_number() ? result["seconds"].get<double>() : out.seconds;
    const auto& error = result.contains("error") ? result["error"] : Json{};
    int command = 0;
    if (const auto guest = result.find("guest_code"); guest != result.end() && guest->is_number_integer())
        command = guest->get<int>();
    if (error.is_object()) {
        out.verdict = look_up(ends, text_at(error, "code")).value_or(Verdict::unable);
        if (out.verdict != Verdict::good)
            out.why = text_at(error, "what");
        // The others advise an operator who can look at a console.
        if (const auto hint = text_at(error, "hint"); !hint.empty() && out.verdict == Verdict::unable)
            out.details.push_back("hint: " + hint);
    } else if (command != 0) {
        out.verdict = Verdict::failed;
        out.why = "the command ended with " + std::to_string(command);
        if (command > 128)
            out.why += ", as a shell reports signal " + std::to_string(command - 128);
    } else {
        out.verdict = Verdict::good;
    }
    out.code = command;
    if (const auto vcpus = result.find("vcpus"); vcpus != result.end() && vcpus->is_array())
        for (const auto& one : *vcpus)
            if (one.is_string())
                out.details.push_back(one.get<std::string>());
}

} // namespace

std::string_view verdict_word(Verdict verdict) {
    switch (verdict) {
    case Verdict::panic:
        return "panic";
    case Verdict::hang:
        return "hang";
    case Verdict::findings:
        return "kernel report";
    case Verdict::failed:
        return "failed";
    case Verdict::timeout:
        return "timeout";
    case Verdict::unable:
        return "not run";
    case Verdict::good:
        return "ok";
    }
    return "";
}

Outcome judge(const ProcessEnd& end, const std::optional<std::string>& result, const std::string& errors) {
    Outcome out;
    out.seconds = end.seconds;
    const auto parsed = result ? Json::parse(*result, nullptr, false) : Json{};
    if (end.interrupted) {
        out.why = "interrupted";
    } else if (parsed.is_object()) {
        take_result(parsed, out);
        take_findings(parsed, out);
    } else if (end.signal != 0) {
        out.why = "inox was ended by signal " + std::to_string(end.signal);
    } else {
        out.why = "inox ended with " + std::to_string(end.code) + " and left no result";
        take_error(errors, out);
        // The watchdog ends a process without a result.
        if (end.code == timeout_code)
            out.verdict = Verdict::timeout;
    }
    out.code = code_of(out.verdict, out.code);
    return out;
}

void add_cases(std::vector<CaseResult> cases, Outcome& out) {
    const auto count = [&](Status status) {
        return static_cast<std::size_t>(std::ranges::count(cases, status, &CaseResult::status));
    };
    const auto bad = count(Status::failed) + count(Status::error);
    if (bad != 0 && out.verdict == Verdict::good) {
        out.verdict = Verdict::failed;
        out.code = 1;
        out.why = plural(bad, "test") + " of " + std::to_string(cases.size()) + " failed";
    }
    static constexpr std::size_t most_named = 10;
    std::size_t named = 0;
    for (const auto& one : cases)
        if ((one.status == Status::failed || one.status == Status::error) && ++named <= most_named)
            out.details.push_back("not ok: " + one.name);
    if (named > most_named)
        out.details.push_back("and " + std::to_string(named - most_named) + " more");
    out.cases = std::move(cases);
}

int whole_code(const std::vector<Outcome>& outcomes) {
    const auto worst = std::ranges::min_element(outcomes, {}, &Outcome::verdict);
    return worst == outcomes.end() ? Outcome::unable_code : worst->code;
}

std::string outcome_json(const Outcome& outcome) {
    Json cases = Json::array();
    for (const auto& one : outcome.cases)
        cases.push_back({{"name", one.name}, {"status", static_cast<int>(one.status)}, {"text", one.text}});
    const Json out{{"verdict", static_cast<int>(outcome.verdict)},
                   {"code", outcome.code},
                   {"why", outcome.why},
                   {"details", outcome.details},
                   {"seconds", outcome.seconds},
                   {"cases", std::move(cases)},
                   {"dropped_cases", outcome.dropped_cases},
                   {"folder", outcome.folder}};
    return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<Outcome> read_outcome(const std::string& json) {
    const auto bad = [] { return fail(Errc::config_value, "this is no outcome of inox test", "run the test again"); };
    const auto parsed = Json::parse(json, nullptr, false);
    if (!parsed.is_object())
        return bad();
    try {
        Outcome out;
        const auto verdict = parsed.at("verdict").get<unsigned>();
        if (verdict > static_cast<unsigned>(Verdict::good))
            return bad();
        out.verdict = static_cast<Verdict>(verdict);
        out.code = std::clamp(parsed.at("code").get<int>(), 0, Outcome::unable_code);
        out.why = parsed.at("why").get<std::string>();
        out.details = parsed.at("details").get<std::vector<std::string>>();
        out.seconds = parsed.at("seconds").get<double>();
        out.dropped_cases = parsed.at("dropped_cases").get<std::size_t>();
        out.folder = parsed.at("folder").get<std::string>();
        for (const auto& one : parsed.at("cases")) {
            const auto status = one.at("status").get<unsigned>();
            if (status > static_cast<unsigned>(Status::error))
                return bad();
            out.cases.push_back(
                {one.at("name").get<std::string>(), static_cast<Status>(status), one.at("text").get<std::string>()});
        }
        return out;
    } catch (const Json::exception&) {
        return bad();
    }
}

} // namespace inox::test
