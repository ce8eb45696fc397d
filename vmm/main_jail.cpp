// SPDX-License-Identifier: Apache-2.0
// `inox jail`: a guest that reaches nothing but what it needs; and Firecracker's jailer.
#include <filesystem>
#include <ranges>
#include <span>

#include "api/firecracker/protocol.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/jail/guest.hpp"
#include "vmm/jail/options.hpp"
#include "vmm/jail/program.hpp"
#include "vmm/main_commands.hpp"

namespace inox::cli {
namespace {

constexpr int jailer_failed = 1;

int report_jailer(Error error) {
    static_cast<void>(report_problem(std::move(error)));
    return jailer_failed;
}

bool reads_standard_input(std::span<const std::string> words) {
    const std::string* before = nullptr;
    for (const auto& word : words) {
        if (word == "--config=-" || (word == "-" && before != nullptr && *before == "--config"))
            return true;
        before = &word;
    }
    return false;
}

int jail_guest(const jail::Given& given) {
    if (reads_standard_input(given.words()))
        return report_problem(error_at("--config", Errc::unsupported, "a jail reads its configuration twice",
                                       "name a file instead of standard input"));
    RunAsked asked;
    const auto words = given.words() | std::views::drop(1) |
                       std::views::transform([](const std::string& word) { return word.c_str(); });
    const std::vector<const char*> run_words{words.begin(), words.end()};
    if (const auto over = read_run(run_words, asked))
        return *over;
    if (!asked.file.api.id.empty())
        return report_problem(error_at("--id", Errc::unsupported, "a guest in a jail is not in the list of inox ps",
                                       "name it by the --id of inox jail, and give it an --api-sock"));
    const auto options = jail::check(given, new_id());
    if (!options)
        return report_problem(options.error());
    std::error_code error;
    const auto folder = std::filesystem::current_path(error).string();
    auto needs = jail::needs_of(asked.file, asked.config_path, folder);
    if (!needs)
        return report_problem(std::move(needs).error());
    if (!asked.from.empty())
        needs->binds.push_back({path_below(folder, asked.from), false});
    if (!asked.page_server.empty())
        needs->binds.push_back({path_below(folder, asked.page_server), true});
    close_inherited(asked.file);
    auto code = jail::run_guest(*options, std::move(*needs));
    return code ? *code : report_problem(std::move(code).error());
}

} // namespace

int jail_command(Arguments arguments) {
    const auto given = jail::Given::parse(arguments);
    if (!given)
        return report_jailer(given.error());
    if (given->has("help"))
        return print_and_finish(jail::help());
    if (given->has("version"))
        return print_and_finish(std::string{"Jailer v"} + api::firecracker::version + "\n\n");
    if (given->is_run())
        return jail_guest(*given);
    const auto options = jail::check(*given, {});
    if (!options)
        return report_jailer(options.error());
    auto code = jail::become_program(*options);
    return code ? *code : report_jailer(std::move(code).error());
}

} // namespace inox::cli
