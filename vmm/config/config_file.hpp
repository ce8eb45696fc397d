// SPDX-License-Identifier: Apache-2.0
// The configuration file: Firecracker's shape, plus an "inox" object for what only inox has. See docs/config.md.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/log.hpp"
#include "vmm/config/allowed_path.hpp"
#include "vmm/config/config.hpp"

namespace inox {

struct LogConfig {
    std::string path{}; ///< file or pipe; empty for standard error
    std::optional<log::Level> level{};
    std::optional<bool> show_level{};  ///< in Firecracker's shape of a line; the other always has it
    std::optional<bool> show_origin{}; ///< the same for FILE:LINE
    std::string module{};              ///< see log::Style
};

struct MetricsConfig {
    std::string path{};       ///< file or pipe that gets a JSON object a line
    bool emit_id{false};      ///< each line has the instance's id
    std::string properties{}; ///< a JSON object that each line repeats; empty for none
};

/// The metadata service: the guest reads it over the network at a fixed address.
struct MmdsConfig {
    std::vector<std::string> interfaces{}; ///< ids of those it answers on
    bool version_2{false};                 ///< a session token is needed
    std::string address{"169.254.169.254"};
    bool imds_compatible{false}; ///< text even where JSON is asked for
};

/// What becomes of a guest that reboots in order.
enum class OnReboot : std::uint8_t { end, fail, restart };
inline constexpr std::array<std::string_view, 3> reboot_words{"end", "fail", "restart"};

/// What becomes of console output that the reader of our standard output leaves no room for.
enum class ConsoleOverflow : std::uint8_t {
    wait, ///< the guest's write takes until there is room
    drop, ///< it is lost, and counted
};
inline constexpr std::array<std::string_view, 2> overflow_words{"wait", "drop"};

/// What becomes of a system call that a thread's filter does not have. See vmm/confine.
enum class Seccomp : std::uint8_t {
    on,  ///< it ends the run
    log, ///< the kernel logs it and does it
    off, ///< no thread has a filter
};
inline constexpr std::array<std::string_view, 3> seccomp_words{"on", "log", "off"};

/// Where GDB can connect, and whether the guest waits for it.
struct GdbConfig {
    std::uint16_t port{}; ///< of 127.0.0.1; 0: `socket` instead
    std::string socket{}; ///< path of a unix socket
    bool wait{true};      ///< the guest's first instruction is executed when the debugger says so
};
/// "1234", "unix:PATH", each perhaps with ",wait=off".
Result<GdbConfig> parse_gdb(const std::string& text);

struct RunOptions {
    std::optional<std::chrono::milliseconds> timeout{};   ///< wall time from the call; then Errc::timed_out
    std::optional<std::chrono::milliseconds> quiet_for{}; ///< a console that says nothing for so long ends the run
    std::string symbols{};    ///< path of a System.map or vmlinux: names for what a hang shows
    std::string expect{};     ///< POSIX extended regex searched in each serial line; seen: the run ends with success
    std::string serial_log{}; ///< path that receives every serial byte
    ConsoleOverflow console_overflow{ConsoleOverflow::wait};
    std::vector<int> keep_fds{}; ///< inherited descriptors that requests of the API will name
    std::string boot_timeline{}; ///< path ending in .json or .svg, written at the end
    std::optional<GdbConfig> gdb{};
    std::vector<std::string>
        fail_on{};               ///< "kernel", or expressions as `expect`; a line of the console makes the run fail
    std::string exits{};         ///< path of the table of exits, JSON when it ends in .json, written at the end
    std::string result{};        ///< path of the JSON object that says how the run ended
    std::string dump_on_panic{}; ///< path of an ELF core, written when the guest's kernel panics
    bool quiet{false};           ///< no closing line on standard error
    OnReboot on_reboot{OnReboot::end};
    Seccomp seccomp{Seccomp::on};
    std::optional<std::chrono::milliseconds> grace{}; ///< for a guest to power off after SIGTERM; none: it ends at once
};

/// Where the serial port's output goes.
struct SerialConfig {
    std::string path{};                           ///< file or pipe; empty for standard output
    std::optional<devices::BucketLimits> limit{}; ///< bytes; what is above it is dropped
};

/// The control API beside the guest.
struct ApiConfig {
    std::string socket{};                  ///< path; empty for none, or with an id for that of the user's folder
    std::string id{};                      ///< in the list of this user's guests; empty: it is not there
    std::string group{};                   ///< whose members may use it too
    std::optional<unsigned> connections{}; ///< clients at once, 1 to most_connections
    static constexpr unsigned usual_connections = 64;
    static constexpr unsigned most_connections = 4096;
};

/// What `inox test` makes of the file: a machine for each kernel, number of CPUs and size of memory. `inox run` does
/// without it.
struct TestConfig {
    std::vector<std::string> kernels{}; ///< paths, or names as `inox test --kernel` takes them
    std::vector<std::string> cpus{};    ///< decimal numbers; empty: the machine's own
    std::vector<std::string> memory{};  ///< as parse_size() takes them; empty: the machine's own
    std::string append{};               ///< words behind the kernel's command line
    bool kunit{false};                  ///< the kernel's own tests
    std::optional<unsigned> jobs{};     ///< machines at a time, 1 to most_jobs
    std::string junit{};                ///< path
    bool tap{false};
    std::string artifacts{}; ///< path of the folder for what failures leave
    bool show_console{false};
    bool slurm{false};
    std::vector<std::string> slurm_options{}; ///< for sbatch
    static constexpr unsigned most_jobs = 1000;
};

struct ConfigFile {
    Config config{};
    RunOptions run{};
    LogConfig log{};
    SerialConfig serial{};
    std::optional<MetricsConfig> metrics{};
    std::optional<MmdsConfig> mmds{};
    ApiConfig api{};
    std::vector<AllowedPath> allow{}; ///< what may be opened later, besides what the rest names
    TestConfig test{};
};

/// How strict the reader is, and which defaults hold.
enum class Dialect : std::uint8_t {
    inox,        ///< every key must be known; everything has a default
    firecracker, ///< as Firecracker reads it: unknown top-level keys are ignored, its required keys are required
};

/// What holds where nothing is said.
ConfigFile initial_config(Dialect dialect);

struct ParsedConfig {
    ConfigFile file{};                  ///< complete only without problems
    std::vector<Error> problems{};      ///< all of them, each with its JSON pointer
    std::vector<std::string> ignored{}; ///< unknown top-level keys, Dialect::firecracker only
};

/// Whether the rules for the whole configuration are checked, too: not when options come over it.
enum class Rules : bool { later, checked };

/// Pure; never throws. `folder`: where relative paths start; empty: in the process's. A file whose kernels are those of
/// a test is checked as if it had one of them.
ParsedConfig parse_config(std::string_view text, Dialect dialect, Transport transport = Transport::pci,
                          std::string_view folder = {}, Rules rules = Rules::checked);

/// The rules for the whole. Without what a problem of reading (`known`) explains.
std::vector<Error> check_rules(const ConfigFile& file, Dialect dialect, std::span<const Error> known);

/// A file of at most `max_size` bytes. "-" is standard input.
Result<std::string> load_text(const std::string& path, std::size_t max_size);
/// Reads a file of at most json_max_size bytes and parses it. "-" is standard input. Relative paths in it start at the
/// folder of the file. In Firecracker's dialect they start at the process's, and "cpu-config" may be the path of a file
/// with that object.
ParsedConfig load_config(const std::string& path, Dialect dialect, Transport transport = Transport::pci,
                         Rules rules = Rules::checked);

/// The metadata service answers on no interface, or on one that does not exist.
std::optional<Error> check_metadata(const ConfigFile& file);

/// A disk has a partition for the kernel's root, but is not the root disk. With Firecracker's flags and by its API that
/// is accepted without effect, as there.
std::optional<Error> check_partitions(const Config& config);

/// Fills a device's section ("vsock"), or appends to a list of them ("drives"), from the key=value form of the command
/// line.
void read_list_option(std::string_view section, std::string_view text, ConfigFile& file, std::vector<Error>& problems);

/// A key the reader knows, for documentation and schema tests.
struct ConfigKey {
    std::string pointer; ///< "/machine-config/vcpu_count", or "/drives" for a whole section
    bool available;      ///< false: the key belongs to a part that this version of inox does not have
};
/// For tests of the documents.
std::vector<ConfigKey> config_keys();

/// "error", "Warning", ...: any case. nullopt for other words.
std::optional<log::Level> parse_log_level(std::string_view text);
/// Why the text is no POSIX extended regular expression; nullopt when it is one.
std::optional<std::string> regex_problem(const std::string& text);

} // namespace inox
