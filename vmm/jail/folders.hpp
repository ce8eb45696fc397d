// SPDX-License-Identifier: Apache-2.0
// Folders and device files in a jail, made with no trust in what stands there: no symbolic link is followed.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "vmm/base/os.hpp"

namespace inox::jail {

/// The folder `path` ("a/b/c") below `top`, made with this mode where it is missing. The jailer's text.
Result<UniqueFd> make_folders(int top, const std::string& path, mode_t mode = 0755);

struct Owner {
    uid_t uid;
    gid_t gid;
};
/// The same below /, where each folder gets mode 0700 and this owner, also one that exists.
Result<UniqueFd> make_owned_folders(const std::string& path, Owner owner);

/// A character or block device with mode 0600 below /, in an owned folder. One that exists is an error.
Result<void> make_device(const std::string& path, mode_t kind, dev_t number, Owner owner);

/// The number of /dev/userfaultfd; nullopt where the kernel has none. `text`: of /proc/misc.
std::optional<unsigned> userfaultfd_minor(const std::string& text);

} // namespace inox::jail
