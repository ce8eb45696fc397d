// SPDX-License-Identifier: Apache-2.0
// The commands of the inox program. Each returns the process's exit code after printing its own errors.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/timeline.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/instance/run.hpp"

namespace inox::cli {

using Arguments = std::span<const char* const>;

int run_command(Arguments arguments, Timeline& timeline);
/// Gives a guest a jail, or is Firecracker's jailer.
int jail_command(Arguments arguments);
int check_command(Arguments arguments);
int host_command(Arguments arguments);
int ctl_command(Arguments arguments);
int exec_command(Arguments all);
/// The running guests of this user that have an id.
int ps_command(Arguments arguments);
int test_command(Arguments arguments);
/// Looks at snapshots.
int snapshot_command(Arguments arguments);
/// Makes clones of one.
int template_command(Arguments words);
/// What the words behind `inox run` ask for. An exit code when they are wrong, which is printed, or ask for help.
struct RunAsked {
    ConfigFile file{};
    std::string config_path{};
    std::string from{};        ///< folder of a snapshot, whose machine `file` then has; empty: the guest boots
    std::string page_server{}; ///< socket of the process that brings its memory; empty: its memory file does
};
std::optional<int> read_run(Arguments words, RunAsked& out);
/// What --clock says of a restored guest; empty: nothing. bad_option.
Result<RestoredClock> read_clock(const std::string& text);
/// Firecracker's own flags: no command word.
int firecracker_command(Arguments arguments, Timeline& timeline);

/// Shows a guest's rates until a signal comes, or once.
Result<int> top(const std::string& socket, std::chrono::milliseconds interval, bool once);

/// To standard output; false when nobody could receive all of it.
bool print(std::string_view text);
int print_and_finish(std::string_view text);
/// After print() failed; returns the exit code.
int report_unheard();
/// Prints every problem, those with a JSON pointer behind the file's name; returns the first one's exit code.
int report_problems(std::span<const Error> problems, const std::string& file = {});
int report_problem(Error problem);

/// Whose command line the process was started with.
enum class Manner : std::uint8_t { inox, firecracker };
/// From here on each thread is confined to what it needs, once it begins.
Result<void> confine_process(const ConfigFile& file, Manner manner);

/// The same of a template, whose clones say for themselves which features they have (features_of).
Result<void> confine_template(Seccomp seccomp);
/// What the lists of threads depend on: see vmm/confine/feature.hpp.
unsigned features_of(const ConfigFile& file);

/// Closes the descriptors that the process was started with and that neither its arguments nor the configuration name.
void close_inherited(const ConfigFile& file);

/// Descriptors that a key names and that the process was not started with. Before anything is opened to stay.
std::vector<Error> closed_descriptors(const ConfigFile& file);

/// Why there could be no API here, as control_api() would find; nothing is made.
std::vector<Error> api_problems(const ApiConfig& config);
/// The API beside a guest; empty without a socket. `max_body`: bytes of a request.
decltype(RunPlan::companion) control_api(const ApiConfig& config, std::size_t max_body = 51200);

/// Why GDB could not connect, as with_gdb() would find; nothing is made.
std::vector<Error> gdb_problems(const std::optional<GdbConfig>& config);
/// A companion and, if it is configured, the place where GDB connects.
decltype(RunPlan::companion) with_gdb(const ConfigFile& file, decltype(RunPlan::companion) other);

} // namespace inox::cli
