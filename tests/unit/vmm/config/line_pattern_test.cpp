// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/line_pattern.hpp"

#include <chrono>
#include <ctime>
#include <random>
#include <regex.h>

#include "tests/catch.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/instance/expect.hpp"

namespace inox::line_pattern_test {

namespace {

bool found_in(LinePattern& pattern, std::string_view line) {
    pattern.restart();
    for (const char c : line)
        pattern.feed(c);
    return pattern.found();
}

bool found(std::string_view expression, std::string_view line) {
    auto pattern = LinePattern::compile(expression);
    REQUIRE(pattern);
    return found_in(*pattern, line);
}

/// What regcomp(3) and regexec(3) say.
class Reference {
public:
    explicit Reference(const std::string& text)
        : valid_{::regcomp(&compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB) == 0} {}
    Reference(const Reference&) = delete;
    Reference& operator=(const Reference&) = delete;
    ~Reference() {
        if (valid_)
            ::regfree(&compiled_);
    }
    [[nodiscard]] bool valid() const { return valid_; }
    [[nodiscard]] bool found(const std::string& line) const {
        return ::regexec(&compiled_, line.c_str(), 0, nullptr, 0) == 0;
    }

private:
    regex_t compiled_{};
    bool valid_;
};

class Words {
public:
    explicit Words(unsigned seed) : random_{seed} {}
    std::string of(std::span<const std::string_view> pieces, unsigned most) {
        std::string text;
        for (auto count = random_() % (most + 1); count > 0; --count)
            text += pieces[random_() % pieces.size()];
        return text;
    }

private:
    std::mt19937 random_;
};

/// Of the CPU: a busy machine takes longer.
std::chrono::nanoseconds time_of(auto work) {
    const auto now = [] {
        timespec time{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
    };
    const auto start = now();
    work();
    return now() - start;
}

} // namespace

TEST_CASE("what people write is found where grep finds it") {
    CHECK(found("login:", "debian login: "));
    CHECK_FALSE(found("login:", "debian logi"));
    CHECK(found("^all [0-9]+ tests (passed|ok)$", "all 12 tests ok"));
    CHECK_FALSE(found("^all [0-9]+ tests (passed|ok)$", "all 12 tests okay"));
    CHECK(found("a{2,3}b", "xaab"));
    CHECK_FALSE(found("a{2,3}b", "xab"));
    CHECK(found("\\<end\\>", "the end."));
    CHECK_FALSE(found("\\<end\\>", "the endless"));
    CHECK(found("\\[ +OK +\\]", "[  OK  ] Started"));
    CHECK(found("[[:digit:]]+\\.[[:digit:]]", "in 1.5 s"));
    CHECK(found("$", ""));
    CHECK(found("\xc3\xa4+", "\xc3\xa4"));
}

TEST_CASE("expressions and lines at random are judged as by the C library") {
    static constexpr std::string_view pieces[] = {
        "a", "b",    "ab",   "c",   ".",   "^",     "$",           "*",    "+",    "?",    "|",   "(",
        ")", "[ab]", "[^a]", "{2}", "x",   "{0,1}", "()",          "_",    "{1,}", "{,2}", "\\.", "[a-c]",
        "-", "{",    "}",    "\\w", "\\W", "[]a]",  "[[:alpha:]]", "[a-]", "\\S",  "]",    " ",   "[.]"};
    static constexpr std::string_view letters[] = {"a", "b", "c", "x", "_", "-", ".", " ", "ab", "]"};
    Words words{20'261'130};
    unsigned matches = 0;
    for (int i = 0; i < 20'000; ++i) {
        const auto expression = words.of(pieces, 7);
        const Reference reference{expression};
        auto pattern = LinePattern::compile(expression);
        INFO(expression);
        REQUIRE(pattern.has_value() == reference.valid());
        for (int j = 0; pattern && j < 8; ++j) {
            const auto line = words.of(letters, 6);
            INFO(line);
            const bool found = found_in(*pattern, line);
            REQUIRE(found == reference.found(line));
            matches += found ? 1 : 0;
        }
    }
    CHECK(matches > 10'000);
}

TEST_CASE("an expression that grows when its repetitions are written out is refused at once") {
    for (const char* hostile :
         {"(a*)*{5}{5}{5}{5}{5}{5}", "((((a{99}){99}){99}){99}){99}", "a{32767}", "(((){999}){999}){999}",
          "a++++++++++++++++++++++++{9}{9}{9}{9}", "((a|b){1,50}){1,50}", "(\\b{9}"}) {
        INFO(hostile);
        std::optional<std::string> problem;
        CHECK(time_of([&] { problem = regex_problem(hostile); }) < std::chrono::seconds{1});
        CHECK(problem);
    }
    CHECK(regex_problem("(a*)*{5}{5}{5}{5}{5}{5}")->contains("repetitions"));
    CHECK(regex_problem("(a)\\1")->contains("back-reference"));
    CHECK_FALSE(regex_problem(std::string(1000, 'a')));
    CHECK(regex_problem(std::string(1001, 'a')));
    CHECK_FALSE(regex_problem("(a{10}){100}"));
    CHECK_FALSE(regex_problem(std::string(400, '(') + "a" + std::string(400, ')')));
}

TEST_CASE("a hostile line costs each byte the same, and no memory") {
    // Of these, the last would be an automaton of 2^20 states for a search that builds one.
    for (const char* hostile : {"(a|aa)*$", "(a*)*b", "(a?){200}a{200}b", "(.*)(.*)(.*)(.*)(.*)[^a]",
                                "((a{1,20}){1,20})b", "(a|b)*a(a|b){20}$"}) {
        INFO(hostile);
        auto pattern = LinePattern::compile(hostile);
        REQUIRE(pattern);
        const std::string line(4096, 'a');
        const auto few = time_of([&] { found_in(*pattern, line.substr(0, 256)); });
        const auto many = time_of([&] { found_in(*pattern, line); });
        CHECK(many < 200 * std::max(few, std::chrono::nanoseconds{10'000})); // 16 times the bytes
        CHECK(many < std::chrono::seconds{2});
    }
}

TEST_CASE("expected text is seen in a line that has not ended, and not across lines") {
    const auto feed = [](Expect& expect, std::string_view text) { return expect.feed(std::as_bytes(std::span{text})); };
    auto prompt = *Expect::create("login: $");
    CHECK_FALSE(feed(*prompt, "login"));
    CHECK_FALSE(feed(*prompt, ":\n "));
    CHECK_FALSE(feed(*prompt, "\r\nlogin: "));
    CHECK(prompt->at_prompt());
    CHECK_FALSE(feed(*prompt, "x"));
    CHECK_FALSE(prompt->at_prompt());
    CHECK(feed(*prompt, "\nlogin: \n"));
    auto blank = *Expect::create("^$");
    CHECK_FALSE(feed(*blank, "x\r"));
    CHECK_FALSE(feed(*blank, "\n"));
    CHECK(feed(*blank, "\r\n"));
    auto cut = *Expect::create("b");
    CHECK_FALSE(feed(*cut, std::string(Expect::max_line, 'a') + "b\n"));
    CHECK(feed(*cut, "b"));
}

TEST_CASE("what depends on the next byte is not expected text before that byte") {
    struct Try {
        const char* pattern;
        const char* line;
        bool there; ///< in the whole line
    };
    for (const auto& [pattern, line, there] :
         {Try{"ok$", "result: ok, but 3 failed", false}, Try{"passed: 10\\b", "passed: 100", false},
          Try{"fail\\>", "failures: 0", false}, Try{"1\\B", "1 left", false}, Try{"ok$", "not yet ok", true},
          Try{"^ok\\>", "ok, all", true}, Try{"1\\B", "12", true}, Try{"ok", "oks", true}}) {
        INFO(pattern << " in " << line);
        auto expect = *Expect::create(pattern);
        bool seen = false;
        for (const char* byte = line; *byte != '\0' && !seen; ++byte)
            seen = expect->feed(std::as_bytes(std::span{byte, 1}));
        CHECK((seen || expect->at_prompt()) == there);
        CHECK((seen || expect->feed(std::as_bytes(std::span{"\n", 1}))) == there);
    }
    CHECK(regex_problem("a\nb")->contains("line break"));
    CHECK(regex_problem("ok\r$")->contains("line break"));
}

} // namespace inox::line_pattern_test
