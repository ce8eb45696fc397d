// SPDX-License-Identifier: Apache-2.0
// What a guest's configuration needs of the host: the files, folders and devices that its jail has.
#pragma once

#include <string>
#include <vector>

#include "vmm/config/config_file.hpp"
#include "vmm/jail/binds.hpp"

namespace inox::jail {

struct Needs {
    std::vector<Bind> binds{};
    std::vector<std::string> devices{};     ///< device files, such as /dev/kvm; those that do not exist, too
    std::vector<std::string> sockets{};     ///< that the guest's process makes, with their whole paths
    std::vector<std::string> environment{}; ///< names of variables that the guest's command gets
    bool locks_memory{false};               ///< for DMA of assigned devices
    bool libraries{false};                  ///< another program is started
};

/// `folder`: where relative paths start. `config_path`: of the configuration file, or empty. Looks at the host's files.
/// bad_option for what a jail cannot show.
Result<Needs> needs_of(const ConfigFile& file, const std::string& config_path, const std::string& folder);

} // namespace inox::jail
