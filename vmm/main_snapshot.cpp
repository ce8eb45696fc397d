// SPDX-License-Identifier: Apache-2.0
// `inox snapshot`: looks at a snapshot without a guest.
#include "vmm/instance/snapshot/contents.hpp"
#include "vmm/instance/snapshot/describe.hpp"
#include "vmm/main_command.hpp"

namespace inox::cli {
namespace {

constexpr const char* examples =
    "Examples:\n  inox snapshot info snap\n  inox snapshot info snap --json | jq .devices\n"
    "  inox snapshot verify snap\n\n"
    "inox ctl ID snapshot DIR makes one, and inox run --from DIR goes on from there.";

} // namespace

int snapshot_command(Arguments arguments) {
    Command command{"inox snapshot",
                    "Looks at a snapshot in the folder DIR.\n"
                    "  info    what was saved, when and by which version; reads the state only\n"
                    "  verify  the same checks, and reads all of the memory to find damage",
                    examples, arguments};
    std::string what;
    std::string folder;
    command.add_positional("WHAT", what, "info or verify");
    command.add_positional("DIR", folder, "the folder of the snapshot");
    command.add_switch("--json", "of info: print one JSON object");
    if (const auto over = command.parse())
        return *over;
    static constexpr std::string_view words[] = {"info", "verify"};
    if (std::ranges::find(words, what) == std::end(words))
        return report_problem(make_error(Errc::bad_option,
                                         what.empty() ? "the command is missing" : "unknown command " + in_quotes(what),
                                         suggestion(what, words, "the commands are info and verify")));
    if (folder.empty())
        return report_problem(
            make_error(Errc::bad_option, "the folder is missing", "try: inox snapshot " + what + " DIR"));
    const auto files = SnapshotFiles::in(folder);
    if (what == "verify") {
        if (auto good = verify_snapshot(files); !good)
            return report_problem(std::move(good).error());
        return print_and_finish(folder + ": good\n");
    }
    auto saved = open_snapshot(files);
    if (!saved)
        return report_problem(std::move(saved).error());
    return print_and_finish(command.has("--json") ? snapshot_json(*saved) : snapshot_text(*saved));
}

} // namespace inox::cli
