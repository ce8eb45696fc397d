// SPDX-License-Identifier: Apache-2.0
// What `inox test` was asked for, and the machines that it makes of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox::test {

/// An option of `inox run` that each machine gets: its name and, unless it is a switch, its value.
struct RunOption {
    std::string name{};
    std::optional<std::string> value{};
};

struct Plan {
    std::vector<std::string> kernels{}; ///< as find_kernel() takes them; at least one
    std::vector<std::string> cpus{};    ///< empty: what `inox run` takes by itself
    std::vector<std::string> memory{};
    std::vector<std::string> command{};   ///< empty: the guest ends by itself
    std::vector<RunOption> options{};     ///< the other options of `inox run`
    std::vector<std::string> in_file{};   ///< names of options whose key a configuration file has
    std::string kernels_key{"--kernel"};  ///< where they were named, for messages
    std::optional<std::string> cmdline{}; ///< of the kernel, in place of ours
    std::string append{};                 ///< words behind the kernel's command line
    bool kunit{false};                    ///< the kernel's own tests, which run before it looks for a root
    std::string timeout{"10m"};           ///< of a machine, as --timeout takes it
};

/// A kernel with what lies beside it.
struct Kernel {
    std::string image{};   ///< path
    std::string symbols{}; ///< path of its System.map; empty: there is none
    std::string label{};   ///< short, without '/' and blanks
};
/// A file; a build directory; "host", the kernel that runs here; or a kernel's release or the start of it, such as
/// "6.12", looked for in /boot and among the kernels that tools/dev has fetched. kernel_missing.
Result<Kernel> find_kernel(const std::string& word);

/// One machine to start.
struct Machine {
    std::size_t index{}; ///< from 0
    Kernel kernel{};
    std::string kernel_word{}; ///< as the operator gave it
    std::string cpus{};        ///< empty: not chosen
    std::string memory{};

    /// "6.12.117, 4 CPUs, 512M"
    [[nodiscard]] std::string text() const;
    /// The same as the name of a file: "0-6.12.117-4-512M".
    [[nodiscard]] std::string file_name() const;
};
inline constexpr std::size_t most_machines = 10'000;
/// no_resource for lists of these lengths that make more machines; an empty list counts as one.
Result<void> check_count(std::size_t kernels, std::size_t cpus, std::size_t memory);
/// Kernels outermost, memory innermost. Every kernel that is not found is a problem, and so is what check_count()
/// refuses.
std::vector<Machine> machines(const Plan& plan, std::vector<Error>& problems);

/// Where a machine's output goes.
struct Outputs {
    std::string folder{};                                                         ///< exists
    [[nodiscard]] std::string console() const { return folder + "/console.log"; } ///< the serial port
    [[nodiscard]] std::string output() const { return folder + "/output.log"; }   ///< the command's
    [[nodiscard]] std::string result() const { return folder + "/result.json"; }  ///< of `inox run`
    [[nodiscard]] std::string errors() const { return folder + "/inox.log"; }     ///< standard error of `inox run`
};

/// The arguments behind "inox".
std::vector<std::string> run_arguments(const Plan& plan, const Machine& machine, const Outputs& outputs);
/// A line for a shell that repeats this machine alone.
std::string repeat_line(const Plan& plan, const Machine& machine);
/// The command as a line for a shell; empty without one.
std::string command_line(const Plan& plan);
/// In quotes where a shell needs them.
std::string shell_word(std::string_view word);

/// The words of the command line of a kernel under test: its warnings show (loglevel), an NMI shows where it is, and it
/// does not stay at a panic.
std::string kernel_cmdline(const Plan& plan);

} // namespace inox::test
