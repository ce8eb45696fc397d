// SPDX-License-Identifier: Apache-2.0
// `inox snapshot`: looks at a snapshot without a guest.
#include "vmm/instance/snapshot/contents.hpp"
#include "vmm/instance/snapshot/describe.hpp"
#include "vmm/main_command.hpp"

namespace inox::cli {
namespace {

constexpr const char* examples =
    "Examples:\n  inox snapshot info snap\n  inox snapshot info snap --json | jq .devices\n"
    "  inox snapshot verify snap\n"
    "  inox ctl vm1 snapshot base && sleep 60 && inox ctl vm1 snapshot next --diff && inox snapshot merge base next\n\n"
    "inox ctl ID snapshot DIR makes one, and inox run --from DIR goes on from there.";

} // namespace

int snapshot_command(Arguments arguments) {
    Command command{"inox snapshot",
                    "Looks at a snapshot in the folder DIR.\n"
                    "  info    what was saved, when and by which version; reads the state only\n"
                    "  verify  the same checks, and reads all of the memory to find damage\n"
                    "  merge   DIR becomes what the Diff was saved of, which is based on it; guests that run from DIR\n"
                    "          stay as they are",
                    examples, arguments};
    std::string what;
    std::string folder;
    std::string diff;
    command.add_positional("WHAT", what, "info, verify or merge");
    command.add_positional("DIR", folder, "the folder of the snapshot");
    command.add_positional("DIFF", diff, "of merge: the folder of the Diff");
    command.add_switch("--json", "of info: print one JSON object");
    if (const auto over = command.parse())
        return *over;
    static constexpr std::string_view words[] = {"info", "verify", "merge"};
    if (std::ranges::find(words, what) == std::end(words))
        return report_problem(make_error(Errc::bad_option,
                                         what.empty() ? "the command is missing" : "unknown command " + in_quotes(what),
                                         suggestion(what, words, "the commands are info, verify and merge")));
    if (folder.empty())
        return report_problem(
            make_error(Errc::bad_option, "the folder is missing", "try: inox snapshot " + what + " DIR"));
    if (diff.empty() == (what == "merge"))
        return report_problem(make_error(Errc::bad_option,
                                         diff.empty() ? "the folder of the Diff is missing" : "one folder too many",
                                         diff.empty() ? "try: inox snapshot merge " + folder + " DIFF"
                                                      : "try: inox snapshot " + what + " " + folder));
    const auto files = SnapshotFiles::in(folder);
    if (what == "merge") {
        if (auto good = merge_snapshots(files, SnapshotFiles::in(diff)); !good)
            return report_problem(std::move(good).error());
        return print_and_finish(folder + ": has " + diff + " in it now\n");
    }
    if (what == "verify") {
        if (auto good = verify_snapshot(files); !good)
            return report_problem(std::move(good).error());
        return print_and_finish(folder + ": good\n");
    }
    auto saved = open_snapshot(files, Whole::unneeded);
    if (!saved)
        return report_problem(std::move(saved).error());
    return print_and_finish(command.has("--json") ? snapshot_json(*saved) : snapshot_text(*saved));
}

} // namespace inox::cli
