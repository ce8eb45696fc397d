// SPDX-License-Identifier: Apache-2.0
// What people and programs are told of a snapshot.
#pragma once

#include <string>

#include "vmm/instance/snapshot/contents.hpp"

namespace inox {

/// A few lines, each ending with a newline.
std::string snapshot_text(const SavedMachine& saved);
/// One JSON object and a newline.
std::string snapshot_json(const SavedMachine& saved);

} // namespace inox
