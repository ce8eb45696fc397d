// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace inox {

/// The tag of the share with the kernel's modules, in a guest with a root; RootConfig::name is its other device.
inline constexpr std::string_view modules_share = "inox-modules";

} // namespace inox
