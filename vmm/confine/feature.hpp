// SPDX-License-Identifier: Apache-2.0
// What a configuration asks for, as far as the lists of system calls depend on it.
#pragma once

#include <cstdint>

namespace inox::confine {

/// A set of these bits.
using Features = unsigned;
/// Devices, or programs that serve them, come and go while the guest runs, or it starts anew: there is an API, ...
constexpr Features changing = 1;
constexpr Features vfio = 2; ///< there may be devices of the host
constexpr Features all_features = changing | vfio;

/// Stands in compiled filters for the number of the process that they are loaded in.
constexpr std::uint32_t own_process_mark = 0x494e4f58;

} // namespace inox::confine
