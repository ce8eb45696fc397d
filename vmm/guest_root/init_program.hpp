// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace inox::guest_root {

/// The static program of init/, which this program holds.
std::span<const std::byte> init_program();

} // namespace inox::guest_root
