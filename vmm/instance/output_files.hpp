// SPDX-License-Identifier: Apache-2.0
// The files that a run writes must not be files that it reads, nor each other's; nor must its sockets be one.
#pragma once

#include "vmm/config/config_file.hpp"

namespace inox {

/// output_unwritable, with the JSON pointer of the output in `where`: it is the kernel, the initrd or a disk's image,
/// by whatever name, or two outputs are one file of which one is written anew. Pipes, terminals and other devices may
/// be shared. config_value: vsock's socket would be the API's. Nothing is opened. In the order of a start.
Result<void> check_outputs_apart(const ConfigFile& file);

} // namespace inox
