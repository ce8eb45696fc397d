// SPDX-License-Identifier: Apache-2.0
// System calls on what is held by an O_PATH descriptor, and in another user's name.
#pragma once

#include <array>
#include <cstdio>
#include <sys/types.h>

#include "vmm/share/folder.hpp"

namespace inox::share {

/// A path that leads to what the descriptor holds and to nothing else, whatever was renamed meanwhile.
inline std::array<char, 32> path_of(int fd) {
    std::array<char, 32> path{};
    std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd); // NOLINT(*-vararg)
    return path;
}

/// While it lives, files are made as the caller and with the caller's permissions, if the server is root; this thread
/// only. False, with EPERM, when that user cannot be taken on.
class As {
public:
    explicit As(Caller caller);
    ~As();
    As(const As&) = delete;
    As& operator=(const As&) = delete;
    explicit operator bool() const noexcept { return good_; }

private:
    bool root_;
    bool good_{true};
};

} // namespace inox::share
