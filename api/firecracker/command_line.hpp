// SPDX-License-Identifier: Apache-2.0
// Firecracker's command line: its flags, what it says of wrong ones, its exit codes and the lines it logs.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"
#include "vmm/base/timeline.hpp"

namespace inox::api::firecracker {

class Flags {
public:
    /// bad_option with Firecracker's text; unsupported for what this version lacks.
    Result<void> parse(std::span<const char* const> arguments);

    [[nodiscard]] bool has(std::string_view name) const { return given_.contains(name); }
    /// Empty when absent, and of a flag without a value.
    [[nodiscard]] const std::string& value(std::string_view name) const;
    /// Of a flag that may be given several times, in order.
    [[nodiscard]] const std::vector<std::string>& values(std::string_view name) const;
    /// nullopt when absent; checked by parse().
    [[nodiscard]] std::optional<std::uint64_t> number(std::string_view name) const;

private:
    [[nodiscard]] Result<void> check_rules() const;

    std::map<std::string, std::string, std::less<>> given_{};              ///< names without the dashes, and values
    std::map<std::string, std::vector<std::string>, std::less<>> lists_{}; ///< of those that may be repeated
};

/// Text of --help.
extern const char* const help;
inline constexpr const char* level_flag = "--level";

/// bad_option with Firecracker's text for wrong arguments; clients match on it.
std::unexpected<Error> wrong_arguments(const std::string& text, std::string hint = {});
/// bad_option for what --id does not take.
Result<void> check_id(const std::string& id);
/// Firecracker's exit code for a failure: 153 for wrong arguments, 152 for a bad configuration of the log, else 1.
int exit_code_of(const Error& error);
inline constexpr int generic_error = 1;

// Lines that log readers and benchmarks look for.
void log_start(const Flags& given);
void log_started();
void log_boot_time(const Timeline& timeline);
void log_exit(int code);

} // namespace inox::api::firecracker
