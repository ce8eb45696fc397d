// SPDX-License-Identifier: Apache-2.0
// The options of `inox run`, as data: each is the twin of a key in the configuration file.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "vmm/config/config_file.hpp"

namespace inox {

struct CommandOption {
    const char* name;  ///< "--memory"
    const char* value; ///< "SIZE", for the help; nullptr for a switch
    const char* help;
    std::string_view twin; ///< JSON pointer of the key that means the same
    /// Stores the value; the error names the option in `where`.
    Result<void> (*apply)(const CommandOption& self, const std::string& text, ConfigFile& file);
    bool repeated{false}; ///< may be given several times, each adds one; else the last wins
    bool bare{false};     ///< the name alone is good, too: the text is then empty
    char letter{};        ///< "-m" is the same; 0: there is none
};
std::span<const CommandOption> run_options();
/// Those of the guest's files and its command, in config_root.cpp.
std::span<const CommandOption> root_options();
/// "--", which everything behind it follows: the command. Its values are not applied one by one.
inline constexpr CommandOption command_option{"--", nullptr, "", "/command/arguments", nullptr};

// For the apply() of an option
std::unexpected<Error> refuse_option(const CommandOption& option, std::string what, std::string hint);
/// The device, or an element of the list, that the twin names: as key=value pairs.
Result<void> add_element(const CommandOption& self, const std::string& text, ConfigFile& file);
/// The same; a first word without a key is the value of `key`.
Result<void> add_named(const CommandOption& self, const char* key, const std::string& text, ConfigFile& file);
/// --allow, in config_allow.cpp.
Result<void> add_allowed(const CommandOption& self, const std::string& text, ConfigFile& file);
/// --forward: of the last --net user before it. In kinds/net.cpp.
Result<void> add_forward(const CommandOption& self, const std::string& text, ConfigFile& file);

} // namespace inox
