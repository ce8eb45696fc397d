// SPDX-License-Identifier: Apache-2.0
// The files that a run writes and the sockets that it makes must not be files that it uses, nor each other's.
#pragma once

#include "vmm/config/config_file.hpp"

namespace inox {

/// Two paths of a configuration name one file, by whatever names, and one use of it would end the other. The error has
/// the JSON pointer of the path that is in the way: output_unwritable for an output that is the kernel, the initrd, a
/// disk's image, a socket, or a file that another output writes anew; config_value for two sockets. Outputs may share
/// pipes, terminals and other devices. Nothing is opened. In the order of a start.
Result<void> check_outputs_apart(const ConfigFile& file);

} // namespace inox
