// SPDX-License-Identifier: Apache-2.0
// The guest's root: its device, and the initial RAM disk whose init mounts it and runs the command there.
#pragma once

#include <cstddef>
#include <stop_token>
#include <vector>

#include "vmm/config/config.hpp"
#include "vmm/guest_root/root_kind.hpp"

namespace inox::guest_root {

/// Looks at the path of the root and adds the device that the guest needs for it, if any. Nothing happens without a
/// root, or the second time. root_missing, root_invalid, unsupported, with the JSON pointer in `where`.
Result<void> add_device(Config& config);

/// The RAM disk of a configuration with a root: our init, its orders, the modules that it loads; a tar archive's
/// files, too. The errors of look_at_root(), modules_missing, initrd_does_not_fit, those of boot::Image for the kernel;
/// `where` is set. wrong_state once `stop` asks for it.
Result<std::vector<std::byte>> make_initrd(const Config& config, const std::stop_token& stop);

/// Where in the root the command runs when nobody says: this process's directory, where the root is a folder that holds
/// it, else "/".
std::string usual_directory(const std::string& root);

} // namespace inox::guest_root
