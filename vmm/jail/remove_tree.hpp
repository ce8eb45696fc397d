// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace inox::jail {

/// Removes a folder and what is below it. Follows no symbolic link and enters no other mount: what another user put
/// there costs nobody a file elsewhere. Things that cannot be removed stay, with the folders above them.
void remove_tree(const std::string& path);

} // namespace inox::jail
