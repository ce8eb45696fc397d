// SPDX-License-Identifier: Apache-2.0
// How many of the process's descriptors a machine takes.
#pragma once

#include <cstddef>

#include "vmm/config/config_file.hpp"

namespace inox {

/// About so many, once a driver uses every device: the process's own, the loop's, KVM's, doorbells and interrupts.
std::size_t descriptors_needed(const ConfigFile& file);

/// Turns the error of a call that found no descriptor left (EMFILE) into an error about the limit, with what the limit
/// allows and what is needed. Returns other errors unchanged.
Error with_descriptor_limit(Error error, const ConfigFile& file);

} // namespace inox
