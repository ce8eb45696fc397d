// SPDX-License-Identifier: Apache-2.0
// A command's options, by CLI11.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/config/config_options.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/main_commands.hpp"

namespace inox::cli {

/// An App that knows only the options that its arguments mention, so that a start takes no time for the others, and
/// that reports an unknown option with the nearest name.
class Command {
public:
    Command(const char* name, const char* description, const char* footer, Arguments arguments)
        : app_{description, name}, arguments_{arguments}, help_{mentions("--help") || mentions("-h")} {
        app_.allow_extras();
        app_.set_help_flag("-h,--help", "show this text");
        if (!help_)
            return;
        app_.footer(footer);
        app_.get_formatter()->column_width(26);
    }

    /// `letter`: its short name, or 0.
    void add_switch(const char* name, const std::string& help, char letter = 0) {
        if (wanted(name, letter))
            app_.add_flag(names(name, letter), help)->disable_flag_override();
    }
    void add(const char* name, std::string& value, const char* value_name, const char* help, char letter = 0) {
        if (wanted(name, letter)) // scripts append overrides
            app_.add_option(names(name, letter), value, help)->type_name(value_name)->take_last();
    }
    /// An option whose value may be left out; it is empty then.
    void add_bare(const char* name, std::string& value, const char* value_name, const char* help) {
        if (wanted(name))
            app_.add_option(name, value, help)->type_name(value_name)->expected(0, 1)->take_last();
    }
    void add_list(const char* name, std::vector<std::string>& values, const char* value_name, const char* help,
                  char letter = 0) {
        if (wanted(name, letter))
            app_.add_option(names(name, letter), values, help)
                ->type_name(value_name)
                ->allow_extra_args(false)
                ->take_all();
    }
    /// An argument without a name.
    void add_positional(const char* name, std::string& value, const char* help) {
        app_.add_option(name, value, help)->type_name("");
    }

    /// The options are added to be printed.
    [[nodiscard]] bool shows_help() const { return help_; }

    /// An exit code when the command is over: help was printed, or the options are wrong.
    std::optional<int> parse() {
        try {
            app_.parse(std::vector<std::string>{arguments_.rbegin(), arguments_.rend()}); // CLI11 wants the last first
        } catch (const CLI::CallForHelp&) {
            return print_and_finish(app_.help());
        } catch (const CLI::ParseError& error) {
            return report_problem(wrong_use(error));
        }
        if (app_.remaining_size() == 0)
            return std::nullopt;
        return report_problem(unknown(app_.remaining().front()));
    }

    /// To be called after parse().
    [[nodiscard]] bool has(const char* name) const {
        const auto* option = app_.get_option_no_throw(name);
        return option != nullptr && option->count() != 0;
    }

private:
    [[nodiscard]] bool mentions(std::string_view name) const {
        return std::ranges::any_of(arguments_, [&](std::string_view one) { return one.starts_with(name); });
    }
    /// An argument with one dash may hold several letters, or a letter and its value.
    [[nodiscard]] bool mentions_letter(char letter) const {
        return letter != 0 && std::ranges::any_of(arguments_, [&](std::string_view one) {
                   return one.starts_with('-') && !one.starts_with("--") && one.contains(letter);
               });
    }
    bool wanted(const char* name, char letter = 0) {
        names_.emplace_back(name);
        return help_ || mentions(name) || mentions_letter(letter);
    }
    static std::string names(const char* name, char letter) {
        return letter == 0 ? name : std::string{"-"} + letter + "," + name;
    }
    [[nodiscard]] std::string see_help() const { return "see " + app_.get_name() + " --help"; }

    /// Words an error of CLI11, such as "--cpus: 1 required N missing".
    [[nodiscard]] Error wrong_use(const CLI::ParseError& error) const {
        const std::string text = error.what();
        const auto colon = text.find(':');
        if (text.ends_with("disallowed flag override"))
            return error_at("--" + text.substr(0, text.find(' ')), Errc::bad_option, "this option takes no value",
                            see_help());
        if (colon == text.npos || !text.starts_with("--"))
            return make_error(Errc::bad_option, text, see_help());
        std::string what = text.ends_with("missing") ? "the value is missing" : text.substr(colon + 2);
        return error_at(text.substr(0, colon), Errc::bad_option, std::move(what), see_help());
    }

    [[nodiscard]] Error unknown(const std::string& word) const {
        const std::string name = word.substr(0, word.find('='));
        if (!name.starts_with('-'))
            return make_error(Errc::bad_option, "unexpected argument " + in_quotes(word), see_help());
        return make_error(Errc::bad_option, "unknown option " + in_quotes(name), suggestion(name, names_, see_help()));
    }

    CLI::App app_;
    Arguments arguments_;
    bool help_;
    std::vector<std::string_view> names_{"--help"};
};

/// An option that has a twin in the configuration. `values`: one element, which stays if it is not given.
inline void add_option(Command& command, const CommandOption& option, std::vector<std::string>& values) {
    if (option.value == nullptr)
        command.add_switch(option.name, option.help, option.letter);
    else if (option.bare)
        command.add_bare(option.name, values.front(), option.value, option.help);
    else if (option.repeated)
        command.add_list(option.name, values, option.value, option.help);
    else
        command.add(option.name, values.front(), option.value, option.help, option.letter);
}

} // namespace inox::cli
