// SPDX-License-Identifier: Apache-2.0
// Whether this host has what the devices of a configuration need: their images, taps and sockets. Those of VFIO are in
// vfio_preflight.
#pragma once

#include <span>
#include <vector>

#include "vmm/config/config.hpp"

namespace inox {

/// Every problem, with its JSON pointer in `where`. Images and taps are opened as a start would, and let go at the end;
/// nothing is made. `known`: what reading the configuration found.
std::vector<Error> device_preflight(const Config& config, std::span<const Error> known = {});

} // namespace inox
