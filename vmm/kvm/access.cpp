// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/access.hpp"

#include <sys/stat.h>

#include "vmm/base/host_files.hpp"

namespace inox {

std::string kvm_denied_hint(const std::string& root) {
    struct stat status {};
    if (::stat((root + "/dev/kvm").c_str(), &status) != 0)
        return "run as root";
    const std::string group = host::group_name(root, status.st_gid);
    if ((status.st_mode & S_IWGRP) == 0)
        return "its group may not write to it: run as root, or sudo chmod 660 /dev/kvm and join the group " + group;
    return "join the group " + group + ": sudo usermod -aG " + group + " $USER, then log in again; or run as root";
}

} // namespace inox
